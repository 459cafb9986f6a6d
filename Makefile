# Product build with PGXS. CMakeLists.txt serves editors, lint, unit tests and sanitizers.
EXTENSION = dts
DTS_VERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" dts.control)
MODULE_big = dts
SOURCES = $(sort $(wildcard src/*.cpp src/pg/*.cpp src/store/*.cpp))
OBJS = $(SOURCES:.cpp=.o)
DATA_built = sql-build/dts--$(DTS_VERSION).sql
DATA = $(wildcard src/sql/updates/dts--*.sql)
DOCS = README.md

REGRESS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
ISOLATION = $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test/isolation
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

PG_CONFIG ?= pg_config
PG_CXXFLAGS = -std=c++20 -fvisibility=hidden -Isrc -isystem $(shell $(PG_CONFIG) --includedir-server) \
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wno-register -DDTS_VERSION='"$(DTS_VERSION)"' $(if $(WERROR),-Werror) $(if $(POINTS),-DDTS_POINTS) -MMD -MP
# Templates of the standard library would be exported, and meet those of other extensions.
SHLIB_LINK = -lstdc++ -lcrypto -Wl,--version-script=$(srcdir)/src/exports.map
# libcurl lives in a library of its own, which only couriers load: dts.so is in every backend.
HTTP_OBJS = $(patsubst %.cpp,%.o,$(sort $(wildcard src/http/*.cpp)))
CURL_CONFIG ?= curl-config
EXTRA_CLEAN = sql-build $(OBJS:.o=.d) $(HTTP_OBJS) $(HTTP_OBJS:.o=.d) dts_http.so

# The bitcode rule does not know our flags, and clang 14 cannot read every C++20 header.
override with_llvm := no
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS tracks headers only when the server was built for it: -MMD above, and this.
-include $(OBJS:.o=.d) $(HTTP_OBJS:.o=.d)

all: dts_http$(DLSUFFIX)
dts_http$(DLSUFFIX): $(HTTP_OBJS)
	$(CXX) $(CXXFLAGS) $(CFLAGS_SL) $(LDFLAGS) -shared -o $@ $^ $(shell $(CURL_CONFIG) --libs) -lstdc++ -Wl,--version-script=$(srcdir)/src/exports.map
install: install-http
install-http: dts_http$(DLSUFFIX)
	$(MKDIR_P) '$(DESTDIR)$(pkglibdir)'
	$(INSTALL_SHLIB) $< '$(DESTDIR)$(pkglibdir)/'
uninstall: uninstall-http
uninstall-http:
	rm -f '$(DESTDIR)$(pkglibdir)/dts_http$(DLSUFFIX)'
.PHONY: install-http uninstall-http

sql-build/dts--$(DTS_VERSION).sql: $(sort $(wildcard src/sql/*.sql))
	@mkdir -p sql-build
	cat $^ > $@
