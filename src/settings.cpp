#include "settings.hpp"

#include "pg/postgres.hpp"

namespace dts::settings {

bool enabled = true;
int max_workers = 4;
int max_lanes = 4096;
int max_queues = 1024;
int max_limits = 4096;
int max_keys = 32768;
int max_databases = 64;
int worker_idle_timeout_ms = 60000;
int worker_max_tasks = 1000000;
int steer_wait_ms = 1000;
int max_payload_kb = 1024;
int max_result_kb = 64;
int max_log_kb = 1024;
int max_definitions = 1000;
int max_crashes = 2;
int batch_budget_ms = 5;
int priority_ageing_s = 600;
int sweep_interval_s = 60;
bool allow_superuser_tasks = true;
char* site = nullptr;
int schedule_clock_offset_s = 0;
int max_transfers = 16384;
int http_timeout_ms = 30000;
int http_connect_timeout_ms = 10000;
int http_host_connections = 0;
int http_lookups = 16;
int breaker_failures = 10;
int breaker_pause_ms = 5000;
int max_response_kb = 1024;
char* http_ca_file = nullptr;
char* secret_key_file = nullptr;
char* secret_key_command = nullptr;
char* secret_old_key_file = nullptr;
char* smtp_url = nullptr;
char* smtp_sender = nullptr;
char* smtp_user = nullptr;
char* smtp_password = nullptr;
bool smtp_tls = true;

namespace {

struct IntSetting {
  const char* name;
  const char* description;
  int* value;
  int lowest, highest;
  GucContext context;
  int flags;
};

constexpr IntSetting kInts[] = {
    {"dts.max_workers", "Executors that may exist at once in the whole cluster.", &max_workers, 0, 256, PGC_SIGHUP, 0},
    {"dts.worker_idle_timeout", "An executor without work leaves after this time.", &worker_idle_timeout_ms, 100, 86400000, PGC_SIGHUP,
     GUC_UNIT_MS},
    {"dts.worker_max_tasks", "An executor leaves, and is replaced, after this many tasks.", &worker_max_tasks, 1, INT_MAX, PGC_SIGHUP, 0},
    {"dts.steer_wait", "How long dts.cancel waits for a running task to end before it answers.", &steer_wait_ms, 0, 60000, PGC_USERSET,
     GUC_UNIT_MS},
    {"dts.max_payload", "Largest SQL text and largest arguments of a task.", &max_payload_kb, 1, 65536, PGC_SUSET, GUC_UNIT_KB},
    {"dts.max_result_size", "Results are cut above this size, row by row.", &max_result_kb, 0, 16384, PGC_SUSET, GUC_UNIT_KB},
    {"dts.max_log_size", "What agents log of one attempt is cut above this size.", &max_log_kb, 1, 1048576, PGC_SUSET, GUC_UNIT_KB},
    {"dts.max_definitions", "Schedules, workflows, handlers, subscriptions, ... of each kind that a role may have, superusers apart.",
     &max_definitions, 0, INT_MAX, PGC_SUSET, 0},
    {"dts.max_crashes", "A task that crashes the server this often while it runs alone becomes a dead letter.", &max_crashes, 1, 100,
     PGC_SIGHUP, 0},
    {"dts.priority_ageing", "A waiting task counts as one priority higher each time it has waited so long; 0 keeps priorities strict.",
     &priority_ageing_s, 0, 86400, PGC_SIGHUP, GUC_UNIT_S},
    {"dts.batch_budget", "A batch of tasks that share a transaction ends after this time.", &batch_budget_ms, 1, 10000, PGC_SIGHUP,
     GUC_UNIT_MS},
    {"dts.sweep_interval", "Shortest time between two looks for tasks that were written behind dts's functions.", &sweep_interval_s, 1,
     86400, PGC_SIGHUP, GUC_UNIT_S},
    {"dts.http_timeout", "Time limit of an attempt of an HTTP or mail task that names none.", &http_timeout_ms, 100, 86400000, PGC_SIGHUP,
     GUC_UNIT_MS},
    {"dts.http_connect_timeout", "Time limit for looking a name up and connecting, where a request names none.", &http_connect_timeout_ms,
     10, 600000, PGC_SIGHUP, GUC_UNIT_MS},
    {"dts.http_host_connections", "Requests that one database sends at once to one host and port; 0: any number.", &http_host_connections,
     0, 1000000, PGC_SIGHUP, 0},
    {"dts.http_lookups", "Names that a courier looks up at once.", &http_lookups, 1, 256, PGC_SIGHUP, 0},
    {"dts.breaker_failures", "Failures in a row after which requests to a host wait; 0: they never do.", &breaker_failures, 0, 1000000,
     PGC_SIGHUP, 0},
    {"dts.breaker_pause", "How long requests to such a host wait before one tries again; doubled each time, up to five minutes.",
     &breaker_pause_ms, 10, 300000, PGC_SIGHUP, GUC_UNIT_MS},
    {"dts.max_response", "Most that a request may ask to keep of a response's body.", &max_response_kb, 1, 65536, PGC_SUSET, GUC_UNIT_KB},
    {"dts.debug_schedule_clock", "Seconds by which the clock of schedules is ahead of the server's, for tests.", &schedule_clock_offset_s,
     -2000000000, 2000000000, PGC_SIGHUP, GUC_UNIT_S | GUC_NOT_IN_SAMPLE},
};

constexpr IntSetting kSizes[] = {
    {"dts.max_lanes", "Lanes (owner, queue, tenant, priority) held in shared memory; more work too, but are slower.", &max_lanes, 16,
     262144, PGC_POSTMASTER, 0},
    {"dts.max_queues", "Queues, of all databases, that may have work at the same time.", &max_queues, 8, 65536, PGC_POSTMASTER, 0},
    {"dts.max_limits", "Limits of queues, handlers, owners and tenants, of all databases, that may exist.", &max_limits, 8, 262144,
     PGC_POSTMASTER, 0},
    {"dts.max_keys", "Concurrency keys, of all databases, of which tasks may run at the same time.", &max_keys, 64, 16777216,
     PGC_POSTMASTER, 0},
    {"dts.max_transfers", "HTTP and mail tasks, of all databases, that may be under way at the same time.", &max_transfers, 16, 1000000,
     PGC_POSTMASTER, 0},
    {"dts.max_databases", "Databases in which dts may run.", &max_databases, 1, 1024, PGC_POSTMASTER, 0},
};

struct TextSetting {
  const char* name;
  const char* description;
  char** value;
  int flags;
};

constexpr TextSetting kTexts[] = {
    {"dts.site", "Name of this server; give physical clones another one to keep them from running tasks.", &site, 0},
    {"dts.http_ca_file", "Certificates that HTTPS and SMTPS trust, as PEM; empty: those of the system.", &http_ca_file, 0},
    {"dts.secret_key_file", "File with the key of secrets: 32 bytes in hexadecimal or base64.", &secret_key_file, GUC_SUPERUSER_ONLY},
    {"dts.secret_key_command", "Command that prints the key of secrets, if there is no file.", &secret_key_command, GUC_SUPERUSER_ONLY},
    {"dts.secret_old_key_file", "File with the former key of secrets, while dts.reencrypt_secrets runs.", &secret_old_key_file,
     GUC_SUPERUSER_ONLY},
    {"dts.smtp_url", "Mail server: smtp://host:port or smtps://host:port.", &smtp_url, GUC_SUPERUSER_ONLY},
    {"dts.smtp_sender", "Sender of mails that name none.", &smtp_sender, 0},
    {"dts.smtp_user", "Login at the mail server; empty: none.", &smtp_user, GUC_SUPERUSER_ONLY},
    {"dts.smtp_password", "Name of the secret that holds the password at the mail server.", &smtp_password, GUC_SUPERUSER_ONLY},
};

void define_int(const IntSetting& s) {
  DefineCustomIntVariable(s.name, s.description, nullptr, s.value, *s.value, s.lowest, s.highest, s.context, s.flags, nullptr, nullptr,
                          nullptr);
}

}  // namespace

void define(bool preloaded) {
  for (const IntSetting& s : kInts) define_int(s);
  if (preloaded)
    for (const IntSetting& s : kSizes) define_int(s);
  DefineCustomBoolVariable("dts.enabled", "Whether tasks are started; off lets running ones end.", nullptr, &enabled, true, PGC_SIGHUP, 0,
                           nullptr, nullptr, nullptr);
  DefineCustomBoolVariable("dts.allow_superuser_tasks", "Whether tasks owned by superusers may be submitted and run.", nullptr,
                           &allow_superuser_tasks, true, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
  DefineCustomBoolVariable("dts.smtp_tls", "Whether a connection to smtp:// must be encrypted with STARTTLS before anything is sent.",
                           nullptr, &smtp_tls, true, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
  for (const TextSetting& t : kTexts)
    DefineCustomStringVariable(t.name, t.description, nullptr, t.value, "", PGC_SIGHUP, t.flags, nullptr, nullptr, nullptr);
  MarkGUCPrefixReserved("dts");
}

}  // namespace dts::settings
