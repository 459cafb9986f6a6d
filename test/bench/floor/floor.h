/*
 * What the session that asks for a measurement and its workers share, in one dynamic shared memory segment.
 */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include "postgres.h"

#include "storage/spin.h"
#include "utils/timestamp.h"

#define FLOOR_MAX_WORKERS 16
#define FLOOR_MAX_BATCH 60
#define FLOOR_LANE 1

typedef struct FloorShared
{
	slock_t		lock;
	Oid			database;
	int			batch;			/* tasks in one transaction */
	bool		listen;			/* wait for wake-ups instead of ending when nothing is left */
	bool		go;				/* the gate: start-up of the workers is not measured */
	bool		stop;
	int			ready;			/* workers that stand at the gate */
	int			finished;
	/* The low watermark: nothing claimable is known at or below it, so that no scan walks the dead rows behind it. */
	TimestampTz mark_at;
	int64		mark_id;
	int64		done;
	TimestampTz ended;			/* when the last task was committed */
} FloorShared;

extern void floor_prepare(int batch);
extern int	floor_transaction(FloorShared *shared);

#endif
