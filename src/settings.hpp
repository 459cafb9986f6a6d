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
extern int max_definitions;
extern int max_crashes;
extern int batch_budget_ms;
extern int priority_ageing_s;
extern int sweep_interval_s;
extern bool allow_superuser_tasks;
extern char* site;
extern int schedule_clock_offset_s;
extern int max_transfers;
extern int http_timeout_ms;
extern int http_connect_timeout_ms;
extern int http_host_connections;
extern int http_lookups;
extern int breaker_failures;
extern int breaker_pause_ms;
extern int max_response_kb;
extern char* http_ca_file;
extern char* secret_key_file;
extern char* secret_key_command;
extern char* secret_old_key_file;
extern char* smtp_url;
extern char* smtp_sender;
extern char* smtp_user;
extern char* smtp_password;
extern bool smtp_tls;

/// Defines all settings. `preloaded`: whether those that size shared memory can be set.
void define(bool preloaded);

}  // namespace dts::settings
