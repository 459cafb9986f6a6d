/*
 * The cheapest honest task loop through SPI: claim, run, record, delete, commit. It does what dts does for each task, with the same rows and
 * indexes, and nothing else: no scheduler, no limits, no journal, no steering, no timeout, no retry.
 */
#include "floor.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/itemptr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* One claimed task with what its history row needs. */
typedef struct Claimed
{
	Datum		tid;
	Datum		id;
	Datum		run_at;
	Datum		submitted_at;
	Datum		text;
	Datum		started_at;
	Datum		ended_at;
	Datum		result;
} Claimed;

static SPIPlanPtr claim_plan;
static SPIPlanPtr history_plan;
static SPIPlanPtr delete_plan;

static SPIPlanPtr task_plan;	/* kept while the text stays the same */
static char *task_text;

static SPIPlanPtr
keep_plan(const char *sql, int nargs, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare(sql, nargs, types);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\"", sql);
	return plan;
}

/* The columns that are the same for each trivial task are constants, those that differ come as values or, in batches, as arrays. */
#define RUN_COLUMNS "INSERT INTO floor.run_leaf (task, ended_at, started_at, due_at, submitted_at, row_count, lane, handler, worker_pid, flags, outcome, kind, attempt, sql, result) "

/* Plans are made before the gate opens, as a warm executor has them. The limit is a constant: a parameter would hide from the planner how small it is. */
void
floor_prepare(int batch)
{
	Oid			claim_types[] = {TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID};
	Oid			one[] = {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID};
	Oid			many[] = {INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	Oid			one_tid[] = {TIDOID};
	Oid			many_tids[] = {TIDARRAYOID};
	char	   *sql;

	sql = psprintf("SELECT ctid, id, run_at, submitted_at, sql, timeout_ms, handler, flags, kind, attempt, max_attempts, args, extra FROM floor.task "
				   "WHERE lane = %d AND state = 0 AND (run_at, id) > ($1, $2) AND run_at <= $3 "
				   "ORDER BY run_at, id LIMIT %d FOR UPDATE SKIP LOCKED", FLOOR_LANE, batch);
	claim_plan = keep_plan(sql, 3, claim_types);
	if (batch == 1)
	{
		sql = psprintf(RUN_COLUMNS "VALUES ($1, $2, $3, $4, $5, 1, %d, 0, %d, 0, 10, 0, 1, $6, $7)", FLOOR_LANE, MyProcPid);
		history_plan = keep_plan(sql, 7, one);
		delete_plan = keep_plan("DELETE FROM floor.task WHERE ctid = $1", 1, one_tid);
	}
	else
	{
		sql = psprintf(RUN_COLUMNS "SELECT id, e, s, d, b, 1, %d, 0, %d, 0, 10, 0, 1, q, r FROM unnest($1, $2, $3, $4, $5, $6, $7) AS u(id, e, s, d, b, q, r)",
					   FLOOR_LANE, MyProcPid);
		history_plan = keep_plan(sql, 7, many);
		delete_plan = keep_plan("DELETE FROM floor.task WHERE ctid = ANY ($1)", 1, many_tids);
	}
}

/* Runs the task's text. The same text again gets a kept plan; a new one runs once, unplanned for reuse, which is cheapest for it. */
static void
execute_text(const char *text)
{
	if (task_text != NULL && strcmp(task_text, text) == 0)
	{
		if (task_plan == NULL)
			task_plan = keep_plan(text, 0, NULL);
		if (SPI_execute_plan(task_plan, NULL, NULL, false, 0) < 0)
			elog(ERROR, "task failed");
		return;
	}
	if (task_plan != NULL)
		SPI_freeplan(task_plan);
	task_plan = NULL;
	if (task_text != NULL)
		pfree(task_text);
	task_text = MemoryContextStrdup(TopMemoryContext, text);
	if (SPI_execute(text, false, 0) < 0)
		elog(ERROR, "task failed");
}

/* One task in its own subtransaction. An error ends the measurement: the workload has no failing tasks. */
static void
run_task(Claimed *task)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *value = NULL;

	task->started_at = TimestampTzGetDatum(GetCurrentTimestamp());
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	execute_text(TextDatumGetCString(task->text));
	if (SPI_processed > 0 && SPI_tuptable != NULL)
		value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	task->result = CStringGetTextDatum(value ? value : "");
	if (SPI_tuptable != NULL)
		SPI_freetuptable(SPI_tuptable);
	ReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	task->ended_at = TimestampTzGetDatum(GetCurrentTimestamp());
}

static int
claim(FloorShared *shared, Claimed *tasks)
{
	Datum		values[3];
	bool		null;
	int			n;

	SpinLockAcquire(&shared->lock);
	values[0] = TimestampTzGetDatum(shared->mark_at);
	values[1] = Int64GetDatum(shared->mark_id);
	SpinLockRelease(&shared->lock);
	values[2] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (SPI_execute_plan(claim_plan, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "claim failed");
	n = (int) SPI_processed;
	for (int i = 0; i < n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;

		tasks[i].tid = SPI_getbinval(row, desc, 1, &null);
		tasks[i].id = SPI_getbinval(row, desc, 2, &null);
		tasks[i].run_at = SPI_getbinval(row, desc, 3, &null);
		tasks[i].submitted_at = SPI_getbinval(row, desc, 4, &null);
		tasks[i].text = SPI_getbinval(row, desc, 5, &null);
	}
	return n;
}

/* The next claims of all workers start behind the last row of this one. */
static void
raise_mark(FloorShared *shared, const Claimed *last)
{
	TimestampTz at = DatumGetTimestampTz(last->run_at);
	int64		id = DatumGetInt64(last->id);

	SpinLockAcquire(&shared->lock);
	if (at > shared->mark_at || (at == shared->mark_at && id > shared->mark_id))
	{
		shared->mark_at = at;
		shared->mark_id = id;
	}
	SpinLockRelease(&shared->lock);
}

/* The history row and the removal of the task, as single rows. */
static void
complete_one(const Claimed *t)
{
	Datum		row[7] = {t->id, t->ended_at, t->started_at, t->run_at, t->submitted_at, t->text, t->result};
	Datum		tid = t->tid;

	if (SPI_execute_plan(history_plan, row, NULL, false, 0) != SPI_OK_INSERT ||
		SPI_execute_plan(delete_plan, &tid, NULL, false, 0) != SPI_OK_DELETE || SPI_processed != 1)
		elog(ERROR, "completion failed");
}

/* The same for a batch: two statements for all of its tasks. */
static void
complete_batch(const Claimed *tasks, int n)
{
	Datum		column[FLOOR_MAX_BATCH];
	Datum		row[7];
	Datum		tids;

#define FILL(target, field, type, length, byval, align) \
	do { \
		for (int i = 0; i < n; i++) \
			column[i] = tasks[i].field; \
		target = PointerGetDatum(construct_array(column, n, type, length, byval, align)); \
	} while (0)

	FILL(row[0], id, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	FILL(row[1], ended_at, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	FILL(row[2], started_at, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	FILL(row[3], run_at, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	FILL(row[4], submitted_at, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	FILL(row[5], text, TEXTOID, -1, false, TYPALIGN_INT);
	FILL(row[6], result, TEXTOID, -1, false, TYPALIGN_INT);
	FILL(tids, tid, TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT);
#undef FILL

	if (SPI_execute_plan(history_plan, row, NULL, false, 0) != SPI_OK_INSERT ||
		SPI_execute_plan(delete_plan, &tids, NULL, false, 0) != SPI_OK_DELETE || SPI_processed != (uint64) n)
		elog(ERROR, "completion failed");
}

/* One transaction of at most shared->batch tasks. Returns how many it ran. */
int
floor_transaction(FloorShared *shared)
{
	Claimed		tasks[FLOOR_MAX_BATCH];
	int			n;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	n = claim(shared, tasks);
	if (n > 0)
	{
		raise_mark(shared, &tasks[n - 1]);
		for (int i = 0; i < n; i++)
			run_task(&tasks[i]);
		if (shared->batch == 1)
			complete_one(&tasks[0]);
		else
			complete_batch(tasks, n);
	}
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	return n;
}
