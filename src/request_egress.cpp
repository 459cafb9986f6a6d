// Egress rules of a role, as requests are judged by them.
#include "pg/as_owner.hpp"
#include "request.hpp"
#include "request_check.hpp"
#include "store/definitions.hpp"

namespace dts {

int read_rules(Oid role, http::RuleText** out) {
  static pg::Statement rules{"SELECT * FROM dts._rule_texts($1)", 1, {OIDOID}};
  MemoryContext const mine = CurrentMemoryContext;
  const Datum values[] = {ObjectIdGetDatum(role)};
  const pg::AsOwner as(store::catalog().owner);
  SPI_connect();
  const int n = static_cast<int>(rules.run(values, nullptr, true));
  auto* const all = static_cast<http::RuleText*>(MemoryContextAllocZero(mine, sizeof(http::RuleText) * static_cast<size_t>(n + 1)));
  for (int i = 0; i < n; i++) {
    bool null = false;
    all[i].allow = DatumGetBool(pg::column(static_cast<uint64>(i), 1, &null));
    const char** const texts[] = {&all[i].host, &all[i].schemes, &all[i].ports, &all[i].networks};
    for (int k = 0; k < 4; k++) {
      const Datum d = pg::column(static_cast<uint64>(i), k + 2, &null);
      *texts[k] = null ? "" : MemoryContextStrdup(mine, TextDatumGetCString(d));
    }
  }
  SPI_finish();
  as.end();
  MemoryContextSwitchTo(mine);
  *out = all;
  return n;
}

}  // namespace dts

namespace dts::request {

void refuse_egress(const Check& c, core::Egress v, const char* target) {
  if (v == core::Egress::Allowed) return;
  ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("requests to %s are not allowed", target),
                  errdetail(v == core::Egress::Denied    ? "A rule denies it."
                            : v == core::Egress::Address ? "The address is private or special, and no rule names it."
                                                         : "No rule allows it to role \"%s\".",
                            GetUserNameFromId(c.role, false)),
                  errhint("An administrator decides with dts.allow_host; see dts.egress.")));
}

}  // namespace dts::request
