/*
 * Start, gate and stop of the floor's workers, and the bare latch wake-up beside which the latency of dts is shown.
 */
#include "floor.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(floor_start);
PG_FUNCTION_INFO_V1(floor_go);
PG_FUNCTION_INFO_V1(floor_stop);
PG_FUNCTION_INFO_V1(floor_wake);
PGDLLEXPORT void floor_worker_main(Datum main_arg);

static dsm_segment *segment;
static BackgroundWorkerHandle *handles[FLOOR_MAX_WORKERS];
static int	worker_count;

/* Naps of 1 ms at the gate and at the end are outside the measured time or far below its length. */
static void
nap(long milliseconds)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
register_worker(int i)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strcpy(worker.bgw_library_name, "floor");
	strcpy(worker.bgw_function_name, "floor_worker_main");
	strcpy(worker.bgw_name, "bench floor");
	strcpy(worker.bgw_type, "bench floor");
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handles[i]))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("could not register a worker of the floor"),
						errhint("Raise max_worker_processes.")));
}

/* Starts the workers and waits until all stand at the gate. Returns the pid of the last one. */
Datum
floor_start(PG_FUNCTION_ARGS)
{
	FloorShared *shared;
	MemoryContext context;
	pid_t		pid = 0;

	worker_count = PG_GETARG_INT32(0);
	if (worker_count < 1 || worker_count > FLOOR_MAX_WORKERS || PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(1) > FLOOR_MAX_BATCH || segment != NULL)
		elog(ERROR, "bad arguments, or the floor runs already");
	segment = dsm_create(sizeof(FloorShared), 0);
	dsm_pin_mapping(segment);
	shared = dsm_segment_address(segment);
	memset(shared, 0, sizeof(*shared));
	SpinLockInit(&shared->lock);
	shared->database = MyDatabaseId;
	shared->batch = PG_GETARG_INT32(1);
	shared->listen = PG_GETARG_BOOL(2);
	shared->mark_at = DT_NOBEGIN;

	context = MemoryContextSwitchTo(TopMemoryContext);
	for (int i = 0; i < worker_count; i++)
		register_worker(i);
	MemoryContextSwitchTo(context);
	for (int i = 0; i < worker_count; i++)
		if (WaitForBackgroundWorkerStartup(handles[i], &pid) != BGWH_STARTED)
			elog(ERROR, "a worker of the floor did not start");
	while (*(volatile int *) &shared->ready < worker_count)
		nap(1);
	PG_RETURN_INT32(pid);
}

static void
finish(void)
{
	for (int i = 0; i < worker_count; i++)
		(void) WaitForBackgroundWorkerShutdown(handles[i]);
	dsm_detach(segment);
	segment = NULL;
}

/* Opens the gate and waits until nothing is left. */
Datum
floor_go(PG_FUNCTION_ARGS)
{
	FloorShared *shared;
	TimestampTz begin;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (segment == NULL)
		elog(ERROR, "start the floor first");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	shared = dsm_segment_address(segment);
	begin = GetCurrentTimestamp();
	*(volatile bool *) &shared->go = true;
	while (*(volatile int *) &shared->finished < worker_count)
		nap(5);
	values[0] = Int64GetDatum(shared->done);
	values[1] = Int64GetDatum(shared->done > 0 ? shared->ended - begin : 0);
	finish();
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* Ends workers that listen. */
Datum
floor_stop(PG_FUNCTION_ARGS)
{
	FloorShared *shared;
	pid_t		pid;

	if (segment == NULL)
		PG_RETURN_VOID();
	shared = dsm_segment_address(segment);
	*(volatile bool *) &shared->stop = true;
	*(volatile bool *) &shared->go = true;
	for (int i = 0; i < worker_count; i++)
		if (GetBackgroundWorkerPid(handles[i], &pid) == BGWH_STARTED)
		{
			PGPROC	   *proc = BackendPidGetProc(pid);

			if (proc != NULL)
				SetLatch(&proc->procLatch);
		}
	finish();
	PG_RETURN_VOID();
}

/* The wake-up that any in-server scheduler could reach at best: the commit callback sets the latch of the one waiting worker. */
static PGPROC *to_wake;

static void
wake_at_commit(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && to_wake != NULL)
		SetLatch(&to_wake->procLatch);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		to_wake = NULL;
}

Datum
floor_wake(PG_FUNCTION_ARGS)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(wake_at_commit, NULL);
	registered = true;
	to_wake = BackendPidGetProc(PG_GETARG_INT32(0));
	PG_RETURN_VOID();
}

/*
 * Runs transactions until nothing is left; a listener waits there for the next wake-up. Nobody looks below the mark again: no task of these
 * workloads fails, so nothing comes free there, and the caller checks that the table is empty.
 */
static void
work(FloorShared *shared)
{
	while (!*(volatile bool *) &shared->stop)
	{
		int			n = floor_transaction(shared);

		CHECK_FOR_INTERRUPTS();
		if (n == 0 && !shared->listen)
			break;
		if (n == 0)
		{
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			continue;
		}
		SpinLockAcquire(&shared->lock);
		shared->done += n;
		shared->ended = GetCurrentTimestamp();
		SpinLockRelease(&shared->lock);
	}
}

void
floor_worker_main(Datum main_arg)
{
	FloorShared *shared;
	dsm_segment *seg;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	seg = dsm_attach(DatumGetUInt32(main_arg));
	if (seg == NULL)
		elog(ERROR, "the session that asked for the floor is gone");
	shared = dsm_segment_address(seg);
	BackgroundWorkerInitializeConnectionByOid(shared->database, InvalidOid, 0);
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);
	/* The claim must stay a bounded index scan whatever the statistics say. */
	SetConfigOption("enable_seqscan", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("enable_bitmapscan", "off", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("enable_sort", "off", PGC_USERSET, PGC_S_SESSION);

	StartTransactionCommand();
	SPI_connect();
	floor_prepare(shared->batch);
	SPI_finish();
	CommitTransactionCommand();

	SpinLockAcquire(&shared->lock);
	shared->ready++;
	SpinLockRelease(&shared->lock);
	while (!shared->listen && !*(volatile bool *) &shared->go)
		nap(1);
	work(shared);
	pgstat_report_stat(true);
	SpinLockAcquire(&shared->lock);
	shared->finished++;
	SpinLockRelease(&shared->lock);
	dsm_detach(seg);
}
