// Checks of SQL at submit: whether a text can be a task, and whether its arguments fit.
#include "run_sql.hpp"
#include "settings.hpp"
#include "submit_check.hpp"

namespace dts {

void check_payload_size(Jsonb* payload, const char* argument) {
  if (payload != nullptr && VARSIZE(payload) > static_cast<Size>(settings::max_payload_kb) * 1024)
    ereport(ERROR,
            (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("argument \"%s\" is too large", argument),
             errdetail("It has %zu bytes, at most %d kB are allowed.", static_cast<size_t>(VARSIZE(payload)), settings::max_payload_kb),
             errhint("Keep large data in a table and pass its key, or raise dts.max_payload.")));
}

void check_sql(const char* sql, bool transactional, int placeholders, bool has_args) {
  if (sql == nullptr)
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"sql\" must not be null"),
                    errhint("Give the statement to run, with $1, $2, ... for values of args.")));
  if (strlen(sql) > static_cast<size_t>(settings::max_payload_kb) * 1024)
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("argument \"sql\" is too large"),
                    errdetail("It has %zu bytes, at most %d kB are allowed.", strlen(sql), settings::max_payload_kb),
                    errhint("Raise dts.max_payload, or put the data into a table or into args.")));
  const SqlShape shape = shape_of(sql);
  if (shape.statements == 0) bad_argument("sql", "is empty", "Give a statement to run.");
  if (shape.transaction_control)
    ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION), errmsg("argument \"sql\" must not control transactions"),
                    errhint("dts runs each task in a transaction; a procedure that commits can be called with transactional => false.")));
  if (shape.copy_stream != nullptr)
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s is not possible in a task", shape.copy_stream),
                    errhint("Load with INSERT, or with COPY from a file or program on the server.")));
  if (shape.statements > 1 && (has_args || (placeholders > 0 && shape.placeholders > 0)))
    bad_argument("sql", "must hold a single statement when it takes arguments",
                 "Put the statements into a function, or submit them as several tasks.");
  if (shape.statements > 1 && !transactional)
    bad_argument("sql", "must hold a single statement with transactional => false", "Submit them as several tasks.");
  if (!transactional && shape.placeholders > 0)
    bad_argument("sql", "must not have placeholders with transactional => false", "Such statements take no parameters.");
  if (!has_args && shape.placeholders > placeholders)
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_PARAMETER), errmsg("there is no argument for $%d", shape.placeholders),
                    errdetail("The SQL has placeholders up to $%d but %d argument(s).", shape.placeholders, placeholders),
                    errhint("Pass a JSON array of arguments.")));
}

void check_args(const Prepared& p, Jsonb* args, bool analyse) {
  const char* const sql = text_to_cstring(p.task.sql);
  if (args != nullptr && (!JB_ROOT_IS_ARRAY(args) || JB_ROOT_IS_SCALAR(args)))
    bad_argument("args", "must be a JSON array", "The elements are bound to $1, $2, ... in order, for example '[1, \"two\"]'.");
  check_payload_size(args, "args");
  const int n = args == nullptr ? 0 : static_cast<int>(JB_ROOT_COUNT(args));
  check_sql(sql, p.task.transactional(), 0, n > 0);
  if (n == 0) return;
  const SqlShape shape = shape_of(sql);
  if (shape.placeholders != n)
    ereport(ERROR, (errcode(shape.placeholders > n ? ERRCODE_UNDEFINED_PARAMETER : ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("argument \"args\" has %d element(s) but the SQL has %d placeholder(s)", n, shape.placeholders),
                    errhint("Each element is bound to one of $1, $2, ... .")));
  if (!p.task.transactional()) bad_argument("args", "cannot be given with transactional => false", "Such statements take no parameters.");
  if (analyse) check_arguments(sql, args, false);
}

}  // namespace dts
