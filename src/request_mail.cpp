// Mails: rendering of their envelope, headers and parts.
#include "core/header.hpp"
#include "core/mail.hpp"
#include "http/rules.hpp"
#include "request_json.hpp"
#include "request_render.hpp"
#include "settings.hpp"

namespace dts::request {

namespace {

constexpr int kRecipients = 1000;

/// A mailbox as texts: its address for the envelope, and how a header shows it. Plain data: failures jump over it.
struct MailboxText {
  char address[256] = "", shown[2048] = "";
};

bool read_mailbox(std::string_view s, MailboxText* out) noexcept {
  try {
    core::Mailbox m;
    if (!core::parse_mailbox(s, &m)) return false;
    strlcpy(out->address, m.address.c_str(), sizeof(out->address));
    strlcpy(out->shown, core::mailbox_text(m).c_str(), sizeof(out->shown));
    return true;
  } catch (...) {
    return false;
  }
}

/// Notes a recipient for the envelope; false if there are too many.
bool add_recipient(Render* r, const char** to, const char* address) {
  int& count = r->out.mail.to_count;
  if (count == kRecipients) {
    fail(r, ERRCODE_PROGRAM_LIMIT_EXCEEDED, psprintf("the mail has more than %d recipients", kRecipients));
    return false;
  }
  to[count++] = psprintf("<%s>", address);
  return true;
}

/// Mailboxes of a member, rendered, as the text of the header. `to`: their addresses go there, for the envelope.
const char* mailboxes(Render* r, Jsonb* request, const char* key, const char** to) {
  JsonbValue v;
  if (!member(&request->root, key, &v)) return nullptr;
  StringInfoData header;
  initStringInfo(&header);
  const uint32 n = v.type == jbvBinary ? JsonContainerSize(v.val.binary.data) : 1;
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = v.type == jbvBinary ? getIthJsonbValueFromContainer(v.val.binary.data, i) : &v;
    if (e->type != jbvString) continue;
    const http::Text t = render_text(r, view(*e), Place::Plain);
    MailboxText m;
    if (!read_mailbox({t.data, t.size}, &m)) {
      fail(r, ERRCODE_INVALID_PARAMETER_VALUE, psprintf("\"%s\" is not a mail address", c_string(t)));
      return nullptr;
    }
    if (to != nullptr && !add_recipient(r, to, m.address)) return nullptr;
    appendStringInfo(&header, "%s%s", header.len > 0 ? ",\r\n " : "", m.shown);
  }
  return header.data;
}

http::Text text_part(Render* r, Jsonb* request, const char* key) {
  JsonbValue v;
  if (!member(&request->root, key, &v) || v.type != jbvString) return {};
  return render_text(r, view(v), Place::Plain);
}

void add_attachments(Render* r, Jsonb* request) {
  JsonbValue v;
  if (!member(&request->root, "attachments", &v) || v.type != jbvBinary) return;
  const uint32 n = JsonContainerSize(v.val.binary.data);
  auto* const parts = static_cast<http::Part*>(palloc0(sizeof(http::Part) * (n + 1)));
  for (uint32 i = 0; i < n; i++) {
    const JsonbValue* const e = getIthJsonbValueFromContainer(v.val.binary.data, i);
    JsonbValue field;
    if (e->type != jbvBinary) continue;
    if (member(e->val.binary.data, "name", &field))
      parts[i].name = in_utf8(field.val.string.val, static_cast<size_t>(field.val.string.len));
    const bool typed = member(e->val.binary.data, "type", &field);
    const char* const type = typed ? text_of(field) : "application/octet-stream";
    parts[i].type = {type, strlen(type)};
    if (member(e->val.binary.data, "base64", &field))
      parts[i].data = decode(r, view(field));
    else if (member(e->val.binary.data, "text", &field))
      parts[i].data = render_text(r, view(field), Place::Plain);
  }
  r->out.mail.parts = parts;
  r->out.mail.part_count = static_cast<int>(n);
}

/// The first domain of the recipients to which rules do not allow mails, with what stands behind it; nullptr if there is none.
const char* refused_domain(const http::RuleText* rules, int n, const char* const* to, int count) noexcept {
  try {
    const std::vector<core::EgressRule> all = http::rules_of(rules, n);
    for (int i = 0; i < count; i++) {
      std::string domain(strchr(to[i], '@') + 1);
      domain.pop_back();  // >
      if (core::may_ask(all, core::Target{"mailto", core::plain_host(domain), 0}) != core::Egress::Allowed) return strchr(to[i], '@') + 1;
    }
    return nullptr;
  } catch (...) {
    return "all";
  }
}

/// The sender of the request, or that of the settings.
MailboxText sender_of(Render* r, Jsonb* request) {
  const char* const text = text_member(request, "sender");
  const char* const given = text != nullptr ? c_string(render_text(r, text, Place::Plain)) : settings::smtp_sender;
  MailboxText m;
  if (!read_mailbox(given == nullptr ? "" : given, &m))
    fail(r, ERRCODE_INVALID_PARAMETER_VALUE, "there is no valid sender: give one, or set dts.smtp_sender");
  return m;
}

void add_subject(Render* r, Jsonb* request) {
  const http::Text subject = text_part(r, request, "subject");
  const std::string_view text(subject.data == nullptr ? "" : subject.data, subject.size);
  if (!core::is_field_value(text)) fail(r, ERRCODE_INVALID_PARAMETER_VALUE, "the subject holds a line break or control character");
  char encoded[8192] = "";
  const auto encode = [&]() noexcept {
    try {
      strlcpy(encoded, core::encoded_text(text).c_str(), sizeof(encoded));
    } catch (...) {
    }
  };
  encode();
  add_line(r, "Subject", encoded);
}

/// Headers that every message has.
void add_marks(Render* r, const char* sender) {
  char date[64];
  const pg_time_t now = timestamptz_to_time_t(GetCurrentTimestamp());
  pg_strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S +0000", pg_gmtime(&now));
  add_line(r, "Date", date);
  const char* const at = strchr(sender, '@');
  add_line(r, "Message-ID", psprintf("<%s%s>", message_id(r->task), at != nullptr ? at : "@dts"));
  add_line(r, "Auto-Submitted", "auto-generated");
}

void check_recipients(Render* r, const char* const* to) {
  http::RuleText* rules = nullptr;
  const int n = read_rules(r->role, &rules);
  if (const char* const domain = refused_domain(rules, n, to, r->out.mail.to_count))
    fail(r, ERRCODE_INSUFFICIENT_PRIVILEGE, psprintf("no rule allows mails to %s", pnstrdup(domain, strcspn(domain, ">"))));
}

/// How the mail server is asked: login and encryption of the settings.
void set_login(Render* r) {
  http::Mail& m = r->out.mail;
  m.tls = settings::smtp_tls;
  if (settings::smtp_user == nullptr || settings::smtp_user[0] == '\0') return;
  m.user = pstrdup(settings::smtp_user);
  if (settings::smtp_password == nullptr || settings::smtp_password[0] == '\0') return;
  // The administrator's, whoever sends.
  const Oid sender = r->role;
  r->role = BOOTSTRAP_SUPERUSERID;
  m.password = c_string(secret_value(r, settings::smtp_password));
  r->role = sender;
}

}  // namespace

void render_mail(Render* r, Jsonb* request) {
  http::Mail& m = r->out.mail;
  http::Request& q = r->out.request;
  if (settings::smtp_url == nullptr || settings::smtp_url[0] == '\0') {
    fail(r, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "there is no mail server: dts.smtp_url is not set");
    return;
  }
  r->host = "";
  r->out.host = pstrdup(settings::smtp_url);
  auto** const to = static_cast<const char**>(palloc(sizeof(char*) * kRecipients));
  const MailboxText sender = sender_of(r, request);
  m.from = psprintf("<%s>", sender.address);
  add_line(r, "From", sender.shown);
  add_line(r, "To", mailboxes(r, request, "to", to));
  add_line(r, "Cc", mailboxes(r, request, "cc", to));
  (void)mailboxes(r, request, "bcc", to);
  add_line(r, "Reply-To", mailboxes(r, request, "reply_to", nullptr));
  add_subject(r, request);
  add_marks(r, sender.address);
  add_headers(r, request);
  m.text = text_part(r, request, "body");
  m.html = text_part(r, request, "html");
  add_attachments(r, request);
  check_recipients(r, to);
  m.to = to;
  set_login(r);
  q.url = pstrdup(settings::smtp_url);
  q.method = "";
  q.most_body = 4096;
}

}  // namespace dts::request
