// Requests at submit: everything that can be known to be wrong is refused here.
#include "core/header.hpp"
#include "core/reference.hpp"
#include "request.hpp"
#include "request_check.hpp"
#include "secret.hpp"

namespace dts::request {

[[noreturn]] void refuse(const Check& c, const char* key, const char* detail, const char* hint) {
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid value for argument \"%s\"", key),
                  c.place != nullptr ? errdetail("%s (in %s)", detail, c.place) : errdetail("%s", detail), errhint("%s", hint)));
}

void need_string(const Check& c, const char* key, const JsonbValue& v) {
  if (v.type != jbvString) refuse(c, key, "It is not a string.", "Give a string.");
}

void need_array(const Check& c, const char* key, const JsonbValue& v, const char* hint) {
  if (v.type != jbvBinary || !JsonContainerIsArray(v.val.binary.data)) refuse(c, key, "It is not an array.", hint);
}

void need_object(const Check& c, const char* key, const JsonbValue& v) {
  if (v.type != jbvBinary || !JsonContainerIsObject(v.val.binary.data))
    refuse(c, key, "It is not a JSON object.", "Give an object, for example {\"name\": \"value\"}.");
}

void check_secret(const Check& c, const char* key, const char* name) {
  const Secret s = find_secret(name, c.role, false);
  if (!s.found)
    ereport(ERROR,
            (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("secret \"%s\" does not exist", name),
             errdetail("Argument \"%s\" refers to it; role \"%s\" must be allowed to use it.", key, GetUserNameFromId(c.role, false)),
             errhint("Create it with dts.create_secret, or see dts.secrets.")));
}

void check_references(const Check& c, const char* key, const JsonbValue& v) {
  std::string_view rest = view(v);
  core::Piece p;
  while (core::next_piece(&rest, c.values, &p))
    if (p.kind == core::Piece::Kind::Secret) check_secret(c, key, pnstrdup(p.text.data(), p.text.size()));
}

void check_headers(const Check& c, const JsonbValue& v, bool mail) {
  int n = 0;
  need_object(c, "headers", v);
  each_member(v.val.binary.data, [&](const JsonbValue& name, const JsonbValue& value) {
    if (!core::is_token(view(name)))
      refuse(c, "headers", psprintf("\"%s\" is not a header name.", text_of(name)), "Names are letters, digits and -.");
    bool reserved = !mail && core::is_reserved_field(view(name));
    for (const char* own :
         {"to", "cc", "bcc", "from", "subject", "date", "reply-to", "sender", "content-type", "mime-version", "content-transfer-encoding"})
      reserved |= mail && pg_strcasecmp(own, text_of(name)) == 0;
    if (reserved) refuse(c, "headers", psprintf("\"%s\" cannot be set.", text_of(name)), "dts makes this field itself.");
    const auto one = [&](const JsonbValue& e) {
      if (!core::is_field_value(view(e)))
        refuse(c, "headers", psprintf("The value of \"%s\" holds a line break or control character.", text_of(name)),
               "Header values are one line.");
      check_references(c, "headers", e);
    };
    if (value.type == jbvNumeric || value.type == jbvBool) return;
    each_string(c, "headers", value, one);
    if (++n > 100) refuse(c, "headers", "There are more than 100.", "Put data into the body.");
  });
}

}  // namespace dts::request

namespace dts {

namespace {

[[noreturn]] void missing(const char* argument, const char* hint) {
  ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument \"%s\" must not be null", argument), errhint("%s", hint)));
}

void check_whole_mail(Jsonb* mail) {
  JsonbValue v;
  if (!request::member(&mail->root, "to", &v) || (v.type == jbvBinary && JsonContainerSize(v.val.binary.data) == 0))
    missing("to", "Give at least one address.");
  if (!request::member(&mail->root, "subject", &v)) missing("subject", "An empty text is a subject, too.");
  if (!request::member(&mail->root, "body", &v) && !request::member(&mail->root, "html", &v)) missing("body", "Give body or html.");
}

void check_whole_http(Jsonb* request, int bodies) {
  JsonbValue v;
  if (!request::member(&request->root, "url", &v)) missing("url", "Give where the request goes, for example https://api.example.com/path.");
  if (bodies > 1)
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
             errmsg("more than one of \"body\", \"form\", \"body_text\" and \"body_bytes\" is given"), errhint("A request has one body.")));
}

}  // namespace

void check_request(core::Kind kind, Jsonb* request, Oid role, bool values, const char* place) {
  const request::Check c{role, values, place};
  const bool mail = kind == core::Kind::Mail;
  http::RuleText* rules = nullptr;
  const int n = mail ? read_rules(role, &rules) : 0;
  int bodies = 0;
  JsonbValue whole;
  whole.type = jbvBinary;
  whole.val.binary.data = &request->root;
  request::need_object(c, mail ? "mail" : "http", whole);
  request::each_member(&request->root, [&](const JsonbValue& name, const JsonbValue& value) {
    const char* const key = request::text_of(name);
    if (value.type == jbvNull && strcmp(key, "body") != 0) return;
    if (mail)
      request::check_mail_member(c, key, value, rules, n);
    else
      request::check_http_member(c, key, value);
    if (strncmp(key, "body", 4) == 0 || strcmp(key, "form") == 0) bodies++;
  });
  if (mail)
    check_whole_mail(request);
  else
    check_whole_http(request, bodies);
}

}  // namespace dts
