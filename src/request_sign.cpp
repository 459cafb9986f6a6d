// What tells a receiver which message this is, and from whom: id and signatures of Standard Webhooks 1.0.
#include "core/base64.hpp"
#include "request_json.hpp"
#include "request_render.hpp"

extern "C" {
#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
}

namespace dts::request {

namespace {

const char* uuid_text(const pg_uuid_t* u) { return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(u))); }

const char* signature(const http::Text& secret, const char* id, int64 at, const http::Text& body) {
  char out[64] = "";
  const auto run = [&]() noexcept {
    try {
      const std::string key = core::webhook_key({secret.data, secret.size});
      const std::string content = core::webhook_content(id, at, {body.data == nullptr ? "" : body.data, body.size});
      uint8 mac[PG_SHA256_DIGEST_LENGTH];
      pg_hmac_ctx* const c = pg_hmac_create(PG_SHA256);
      const bool good = c != nullptr && pg_hmac_init(c, reinterpret_cast<const uint8*>(key.data()), key.size()) >= 0 &&
                        pg_hmac_update(c, reinterpret_cast<const uint8*>(content.data()), content.size()) >= 0 &&
                        pg_hmac_final(c, mac, sizeof(mac)) >= 0;
      pg_hmac_free(c);
      if (good) strlcpy(out, core::base64({reinterpret_cast<const char*>(mac), sizeof(mac)}).c_str(), sizeof(out));
    } catch (...) {
    }
  };
  run();
  return out[0] == '\0' ? nullptr : psprintf("v1,%s", out);
}

}  // namespace

const char* message_id(const store::Task& t) {
  const struct { int64 id, submitted_at, lane; } who{t.id, t.submitted_at, t.lane};
  pg_uuid_t u;
  uint8 digest[PG_SHA256_DIGEST_LENGTH];
  pg_cryptohash_ctx* const c = pg_cryptohash_create(PG_SHA256);
  if (pg_cryptohash_init(c) < 0 || pg_cryptohash_update(c, reinterpret_cast<const uint8*>(&who), sizeof(who)) < 0 ||
      pg_cryptohash_final(c, digest, sizeof(digest)) < 0)
    ereport(ERROR, (errmsg("could not compute a digest")));
  pg_cryptohash_free(c);
  memcpy(u.data, digest, sizeof(u.data));
  u.data[6] = static_cast<unsigned char>((u.data[6] & 0x0f) | 0x80);  // version 8, of our own making
  u.data[8] = static_cast<unsigned char>((u.data[8] & 0x3f) | 0x80);
  return uuid_text(&u);
}

void sign(Render* r, Jsonb* request, const char* id) {
  JsonbValue v;
  if (!member(&request->root, "sign", &v)) return;
  const int64 at = GetCurrentTimestamp() / USECS_PER_SEC + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * 86400LL;
  StringInfoData all;
  initStringInfo(&all);
  const auto one = [&](const JsonbValue& name) {
    const http::Text secret = secret_value(r, view(name));
    const char* const s = r->out.error != nullptr ? nullptr : signature(secret, id, at, r->out.request.body);
    if (s != nullptr) appendStringInfo(&all, "%s%s", all.len > 0 ? " " : "", s);
  };
  if (v.type == jbvString) {
    one(v);
  } else if (v.type == jbvBinary) {
    const uint32 n = JsonContainerSize(v.val.binary.data);
    for (uint32 i = 0; i < n; i++) one(*getIthJsonbValueFromContainer(v.val.binary.data, i));
  }
  const char* const stamp = psprintf("%lld", static_cast<long long>(at));
  add_header(r, "webhook-id", {id, strlen(id)});
  add_header(r, "webhook-timestamp", {stamp, strlen(stamp)});
  add_header(r, "webhook-signature", {all.data, static_cast<size_t>(all.len)});
}

}  // namespace dts::request
