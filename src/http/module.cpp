// What makes dts_http a library that the server loads.
#include "pg/postgres.hpp"

extern "C" {
DTS_MODULE_MAGIC;
}
