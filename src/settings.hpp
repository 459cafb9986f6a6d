// The settings of dts (docs/settings.md is generated from their descriptions in settings.cpp).
#pragma once

namespace dts::settings {

extern bool enabled;
extern int max_workers;
extern int max_lanes;
extern int max_queues;
extern int max_limits;
extern int max_keys;
extern int max_databases;
extern int worker_idle_timeout_ms;
extern int worker_max_tasks;
extern int steer_wait_ms;
extern int max_payload_kb;
extern int max_result_kb;
extern int max_log_kb;
extern int max_crashes;
extern int batch_budget_ms;
extern int priority_ageing_s;
extern int sweep_interval_s;
extern bool allow_superuser_tasks;
extern char* site;
extern int schedule_clock_offset_s;

/// Defines all settings. `preloaded`: whether those that size shared memory can be set.
void define(bool preloaded);

}  // namespace dts::settings
