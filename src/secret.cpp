#include "secret.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "pg/as_owner.hpp"
#include "pg/guard.hpp"
#include "settings.hpp"
#include "store/definitions.hpp"

extern "C" {
#include "storage/fd.h"
}

// What is stored: nonce (12 bytes), tag (16), ciphertext. The name and the owner are authenticated with it, so that a value cannot be
// moved to another row.

namespace dts {

namespace {

constexpr int kNonce = 12, kTag = 16, kKey = 32, kKeyId = 8;

struct Key {
  bool there = false;
  unsigned char bytes[kKey];
  unsigned char id[kKeyId];  // of its digest: tells keys apart, and says nothing of them
};

[[noreturn]] void no_key(const char* detail) {
  ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("there is no key for secrets"), errdetail("%s", detail),
                  errhint("Put 32 random bytes, in hexadecimal or base64, into a file that only the server may read, and name it in "
                          "dts.secret_key_file; or set dts.secret_key_command.")));
}

bool set_key(Key* k, const char* text, int length) {
  while (length > 0 && isspace(static_cast<unsigned char>(text[length - 1]))) length--;
  bool hex = length == 2 * kKey;
  for (int i = 0; i < length && hex; i++) hex = isxdigit(static_cast<unsigned char>(text[i])) != 0;
  if (hex) {
    for (size_t i = 0; i < kKey; i++) {
      const char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};
      k->bytes[i] = static_cast<unsigned char>(strtol(digits, nullptr, 16));
    }
  } else {
    unsigned char out[64];
    if (length != 44 || EVP_DecodeBlock(out, reinterpret_cast<const unsigned char*>(text), length) != 33) return false;
    memcpy(k->bytes, out, kKey);
    explicit_bzero(out, sizeof(out));
  }
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(k->bytes, kKey, digest);
  memcpy(k->id, digest, kKeyId);
  k->there = true;
  return true;
}

/// The key in a file, or what a command prints; returns what is wrong, or nullptr. Read anew each time: it is not kept in memory.
const char* read_key(Key* k, const char* file, const char* command) {
  char text[256];
  int n = 0;
  if (file != nullptr && file[0] != '\0') {
    struct stat st {};
    const int fd = OpenTransientFile(file, O_RDONLY);
    if (fd < 0) return psprintf("The file of dts.secret_key_file could not be opened: %s.", strerror(errno));
    const bool open_to_others = fstat(fd, &st) != 0 || (st.st_mode & (S_IRWXG | S_IRWXO) & ~S_IRGRP) != 0;
    n = open_to_others ? 0 : static_cast<int>(read(fd, text, sizeof(text) - 1));
    CloseTransientFile(fd);
    if (open_to_others) return "The file of dts.secret_key_file can be read by others than the server: its mode must be 0600 or 0640.";
  } else if (command != nullptr && command[0] != '\0') {
    FILE* const pipe = OpenPipeStream(command, "r");
    if (pipe == nullptr) return "The command of dts.secret_key_command could not be started.";
    n = static_cast<int>(fread(text, 1, sizeof(text) - 1, pipe));
    if (ClosePipeStream(pipe) != 0) return "The command of dts.secret_key_command failed.";
  } else {
    return "Neither dts.secret_key_file nor dts.secret_key_command is set.";
  }
  const bool good = n > 0 && set_key(k, text, n);
  explicit_bzero(text, sizeof(text));
  return good ? nullptr : "What is there is not 32 bytes in hexadecimal (64 digits) or base64 (44 characters).";
}

Key key_or_error(const char* file, const char* command) {
  Key k;
  if (const char* const why = read_key(&k, file, command)) no_key(why);
  return k;
}

const char* context_of(const char* name, Oid owner) { return psprintf("dts.secret %u %s", owner, name); }

bytea* seal(const Key& k, const char* context, const char* value, int size) {
  auto* const out = static_cast<bytea*>(palloc(VARHDRSZ + kNonce + kTag + size));
  SET_VARSIZE(out, VARHDRSZ + kNonce + kTag + size);
  auto* const p = reinterpret_cast<unsigned char*>(VARDATA(out));
  if (!pg_strong_random(p, kNonce)) ereport(ERROR, (errmsg("could not make a random nonce")));
  EVP_CIPHER_CTX* const c = EVP_CIPHER_CTX_new();
  int n = 0;
  const bool good =
      c != nullptr && EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), nullptr, k.bytes, p) == 1 &&
      EVP_EncryptUpdate(c, nullptr, &n, reinterpret_cast<const unsigned char*>(context), static_cast<int>(strlen(context))) == 1 &&
      EVP_EncryptUpdate(c, p + kNonce + kTag, &n, reinterpret_cast<const unsigned char*>(value), size) == 1 &&
      EVP_EncryptFinal_ex(c, p + kNonce + kTag + n, &n) == 1 && EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, kTag, p + kNonce) == 1;
  EVP_CIPHER_CTX_free(c);
  if (!good) ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("could not encrypt a secret")));
  return out;
}

/// False if the value was not made with this key for this row.
bool unseal(const Key& k, const char* context, bytea* sealed, char** value, int* size) {
  const int length = static_cast<int>(VARSIZE_ANY_EXHDR(sealed)) - kNonce - kTag;
  if (length < 0) return false;
  auto* const p = reinterpret_cast<unsigned char*>(VARDATA_ANY(sealed));
  auto* const out = static_cast<unsigned char*>(palloc(length + 1));
  EVP_CIPHER_CTX* const c = EVP_CIPHER_CTX_new();
  int n = 0;
  const bool good =
      c != nullptr && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), nullptr, k.bytes, p) == 1 &&
      EVP_DecryptUpdate(c, nullptr, &n, reinterpret_cast<const unsigned char*>(context), static_cast<int>(strlen(context))) == 1 &&
      EVP_DecryptUpdate(c, out, &n, p + kNonce + kTag, length) == 1 &&
      EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, kTag, p + kNonce) == 1 && EVP_DecryptFinal_ex(c, out + n, &n) == 1;
  EVP_CIPHER_CTX_free(c);
  out[length] = '\0';
  *value = reinterpret_cast<char*>(out);
  *size = length;
  return good;
}

bool same_key(const Key& k, bytea* id) { return VARSIZE_ANY_EXHDR(id) == kKeyId && memcmp(VARDATA_ANY(id), k.id, kKeyId) == 0; }

bytea* key_id(const Key& k) {
  auto* const out = static_cast<bytea*>(palloc(VARHDRSZ + kKeyId));
  SET_VARSIZE(out, VARHDRSZ + kKeyId);
  memcpy(VARDATA(out), k.id, kKeyId);
  return out;
}

pg::Statement usable{
    "SELECT s.value, s.key_id, array_to_string(s.hosts, ','), s.owner::oid FROM dts.secret s WHERE s.name = $1 AND (pg_has_role($2, "
    "s.owner::oid, "
    "'MEMBER') OR EXISTS (SELECT FROM unnest(s.roles) r WHERE pg_has_role($2, r::oid, 'MEMBER')))",
    2,
    {TEXTOID, OIDOID}};

}  // namespace

Secret find_secret(const char* name, Oid role, bool open) {
  Secret s{};
  const Datum values[] = {CStringGetTextDatum(name), ObjectIdGetDatum(role)};
  MemoryContext const mine = CurrentMemoryContext;
  bytea *sealed = nullptr, *id = nullptr;
  Oid owner = InvalidOid;
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  if (usable.run(values, nullptr, true) == 1) {
    bool null = false;
    s.found = true;
    sealed = DatumGetByteaPP(pg::column_copy(mine, 0, 1, &null));
    id = DatumGetByteaPP(pg::column_copy(mine, 0, 2, &null));
    s.hosts = MemoryContextStrdup(mine, TextDatumGetCString(pg::column(0, 3, &null)));
    owner = DatumGetObjectId(pg::column(0, 4, &null));
  }
  SPI_finish();
  as.end();
  MemoryContextSwitchTo(mine);
  if (!s.found || !open) return s;
  Key k;
  const char* const no = read_key(&k, settings::secret_key_file, settings::secret_key_command);
  char* value = nullptr;
  int size = 0;
  if (no != nullptr)
    s.why = no;
  else if (!same_key(k, id))
    s.why = "it was encrypted with another key";
  else if (!unseal(k, context_of(name, owner), sealed, &value, &size))
    s.why = "it cannot be decrypted";
  else
    s.opened = true;
  explicit_bzero(&k, sizeof(k));
  s.value = value;
  s.size = static_cast<size_t>(size);
  return s;
}

}  // namespace dts

using namespace dts;

/// dts._seal(name, owner, value): what is stored of it, and under which key.
DTS_FUNCTION(dts_seal) {
  TupleDesc desc = nullptr;
  if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) elog(ERROR, "unexpected result type of dts._seal");
  text* const value = PG_GETARG_TEXT_PP(2);
  Key k = key_or_error(settings::secret_key_file, settings::secret_key_command);
  bytea* const sealed = seal(k, context_of(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_OID(1)), VARDATA_ANY(value),
                             static_cast<int>(VARSIZE_ANY_EXHDR(value)));
  Datum v[2] = {PointerGetDatum(sealed), PointerGetDatum(key_id(k))};
  explicit_bzero(&k, sizeof(k));
  bool nulls[2] = {};
  return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), v, nulls));
}

/// dts._reseal(name, owner, value, key_id): the same value under the key of now; NULL if it is already.
DTS_FUNCTION(dts_reseal) {
  const char* const context = context_of(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_OID(1));
  bytea* const sealed = PG_GETARG_BYTEA_PP(2);
  Key now = key_or_error(settings::secret_key_file, settings::secret_key_command);
  if (same_key(now, PG_GETARG_BYTEA_PP(3))) PG_RETURN_NULL();
  Key old = key_or_error(settings::secret_old_key_file, nullptr);
  char* value = nullptr;
  int size = 0;
  const bool good = unseal(old, context, sealed, &value, &size);
  explicit_bzero(&old, sizeof(old));
  if (!good)
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("secret \"%s\" cannot be decrypted", text_to_cstring(PG_GETARG_TEXT_PP(0))),
                    errhint("dts.secret_old_key_file must hold the key under which it was encrypted.")));
  bytea* const out = seal(now, context, value, size);
  explicit_bzero(value, static_cast<size_t>(size));
  explicit_bzero(&now, sizeof(now));
  PG_RETURN_BYTEA_P(out);
}

/// dts._key_id(): of the key of now.
DTS_FUNCTION(dts_key_id) {
  Key k = key_or_error(settings::secret_key_file, settings::secret_key_command);
  bytea* const id = key_id(k);
  explicit_bzero(&k, sizeof(k));
  PG_RETURN_BYTEA_P(id);
}
