#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "machine/limits.h"
#include "machine/topology.h"
#include "machine_fixture.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void loads_this_machine(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load(NULL);
    assert_false(t->synthetic);
    assert_true(t->pus >= 1 && t->cores >= 1 && t->packages >= 1 && t->numas >= 1);
    assert_true(t->usable_pus >= 1 && t->usable_pus <= t->pus);
    assert_true(t->usable_cores >= 1 && t->usable_cores <= t->cores);
    assert_true(t->max_threads >= 1 && t->max_threads <= t->usable_pus);
    assert_true(t->memory_bytes > 0);
    dlb_topology_release(t);
    dlb_topology_release(NULL);
}

static void loads_a_two_socket_server(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load("pack:2 numa:1 l3:4 core:8 pu:2");
    assert_true(t->synthetic);
    assert_int_equal(t->packages, 2);
    assert_int_equal(t->numas, 2);
    assert_int_equal(t->l3s, 8);
    assert_int_equal(t->cores, 64);
    assert_int_equal(t->pus, 128);
    assert_int_equal(t->kinds, 1);
    assert_int_equal(t->usable_pus, 128);
    assert_int_equal(t->usable_cores, 64);
    assert_int_equal(t->max_threads, 128);
    assert_true(t->quota_cpus == 0);
    assert_int_equal(t->cache[3].shared_by, 16);
    assert_true(t->cache[3].bytes > 0);
    assert_int_equal(t->pu[0].smt_rank, 0);
    assert_int_equal(t->pu[1].smt_rank, 1);
    assert_int_equal(t->pu[1].core, 0);
    assert_int_equal(t->pu[127].package, 1);
    assert_int_equal(t->pu[127].numa, 1);
    assert_int_equal(t->pu[127].l3, 7);
    assert_int_equal(t->pu[127].core, 63);
    dlb_topology_release(t);
}

static void accepts_the_words_that_users_write(void **state)
{
    (void)state;
    static const char *const spec[] = {
        "pack:2 l3:1 core:2 pu:2",
        "socket:2 l3:1 core:2 pu:2",
        "Packages:2 L3:1 cores:2 threads:2",
        "  sockets:2   l3:1 core:2 smt:2 ",
        "package:2 l3:1(size=32MB) l2:2 l1:1 core:1 pu:2",
    };
    for (size_t i = 0; i < sizeof spec / sizeof *spec; i++) {
        struct dlb_topology *t = machine_load(spec[i]);
        assert_int_equal(t->packages, 2);
        assert_int_equal(t->cores, 4);
        assert_int_equal(t->pus, 8);
        dlb_topology_release(t);
    }
    /* Without PUs each core has one. */
    struct dlb_topology *t = machine_load("core:4");
    assert_int_equal(t->pus, 4);
    assert_int_equal(t->l3s, 0);
    assert_int_equal(t->pu[3].l3, -1);
    assert_int_equal(t->cache[3].bytes, 0);
    dlb_topology_release(t);
    /* Without cores each PU is one. */
    t = machine_load("pu:4");
    assert_int_equal(t->cores, 4);
    assert_int_equal(t->usable_cores, 4);
    assert_int_equal(t->pu[2].smt_rank, 0);
    dlb_topology_release(t);
}

static void refuses_bad_specs_with_a_sentence(void **state)
{
    (void)state;
    static const char *const spec[] = {"",
                                       " ",
                                       "nonsense",
                                       "pack:2 foo:3",
                                       "pack:0 core:2",
                                       "core:-1",
                                       "core:2 pu:2 core:2",
                                       "core:",
                                       ".xml"};
    for (size_t i = 0; i < sizeof spec / sizeof *spec; i++) {
        struct dlb_topology *t = NULL;
        struct dlb_error error = {""};
        assert_int_equal(dlb_topology_load(spec[i], &t, &error), DLB_INVALID);
        assert_null(t);
        assert_non_null(strstr(error.text, "\"pack:2 numa:1 l3:4 core:8 pu:2\""));
        assert_non_null(strstr(error.text, spec[i]));
    }
    struct dlb_topology *t = NULL;
    struct dlb_error error = {""};
    assert_int_equal(dlb_topology_load("core:2 pu:2000", &t, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "4000"));
    assert_int_equal(dlb_topology_load("/no/such.xml", &t, &error), DLB_IO);
    assert_non_null(strstr(error.text, "/no/such.xml"));
    char *overlong = malloc(5000);
    memset(overlong, 'x', 4999);
    overlong[4999] = 0;
    assert_int_equal(dlb_topology_load(overlong, &t, &error), DLB_INVALID);
    free(overlong);
    assert_null(t);

    char path[] = "/tmp/dlb_topology_XXXXXX.xml";
    int file = mkstemps(path, 4);
    assert_true(file >= 0);
    assert_int_equal(write(file, "<topology>", 10), 10);
    close(file);
    assert_int_equal(dlb_topology_load(path, &t, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, path));
    unlink(path);
}

static void loads_a_hybrid_from_xml(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load(MACHINE_HYBRID);
    assert_true(t->synthetic);
    assert_int_equal(t->kinds, 2);
    assert_int_equal(t->cores, 6);
    assert_int_equal(t->pus, 8);
    assert_int_equal(t->pu[0].kind, 1);
    assert_int_equal(t->pu[7].kind, 0);
    dlb_topology_release(t);
}

static void exports_what_it_can_load(void **state)
{
    (void)state;
    char path[] = "/tmp/dlb_topology_XXXXXX.xml";
    int file = mkstemps(path, 4);
    assert_true(file >= 0);
    close(file);
    struct dlb_topology *t = machine_load("pack:2 l3:2 core:2 pu:2");
    assert_int_equal(dlb_topology_export(t, path, NULL), DLB_OK);
    struct dlb_topology *back = machine_load(path);
    assert_int_equal(back->pus, t->pus);
    assert_int_equal(back->l3s, t->l3s);
    assert_memory_equal(back->pu, t->pu, t->pus * sizeof *t->pu);
    struct dlb_error error = {""};
    assert_int_equal(dlb_topology_export(t, "/no/such/place.xml", &error), DLB_IO);
    assert_non_null(strstr(error.text, "/no/such/place.xml"));
    dlb_topology_release(t);
    dlb_topology_release(back);
    unlink(path);
}

static void the_quota_caps_the_threads(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load("core:8 pu:2");
    static const struct {
        double quota;
        int threads;
    } expected[] = {{0, 16}, {3.5, 3}, {15.5, 15}, {0.2, 1}, {1, 1}, {16, 16}, {99, 16}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        dlb_topology_set_quota(t, expected[i].quota);
        assert_int_equal(t->max_threads, expected[i].threads);
    }
    dlb_topology_release(t);
}

static void reads_no_limits_where_there_are_none(void **state)
{
    (void)state;
    struct dlb_limits limits;
    dlb_limits_read("/no/such/root", &limits);
    assert_true(limits.quota_cpus == 0 && limits.memory_bytes == 0);
    char *root = machine_root();
    machine_file(root, "/proc/self/cgroup", "0::/\n:::\ngarbage\n\n5:cpu");
    machine_file(root, "/proc/self/mountinfo",
                 "garbage\n1 2 - cgroup2\n - cgroup2 a b\n");
    dlb_limits_read(root, &limits);
    assert_true(limits.quota_cpus == 0 && limits.memory_bytes == 0);
    machine_root_remove(root);
}

static void finds_the_tightest_group_of_version_2(void **state)
{
    (void)state;
    char *root = machine_root();
    struct dlb_limits limits;
    machine_file(root, "/proc/self/cgroup", "0::/outer/inner\n");
    machine_file(root, "/proc/self/mountinfo",
                 "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
                 "30 22 0:26 / /sys/fs/cg\\040two rw,nosuid shared:4 - cgroup2 cgroup2"
                 " rw\n");
    machine_file(root, "/sys/fs/cg two/outer/inner/cpu.max", "400000 100000\n");
    machine_file(root, "/sys/fs/cg two/outer/cpu.max", "150000 100000\n");
    machine_file(root, "/sys/fs/cg two/cpu.max", "max 100000\n");
    machine_file(root, "/sys/fs/cg two/outer/inner/memory.max", "max\n");
    machine_file(root, "/sys/fs/cg two/outer/memory.max", "1000000\n");
    machine_file(root, "/sys/fs/cg two/outer/memory.current", "700000\n");
    machine_file(root, "/sys/fs/cg two/outer/memory.stat",
                 "anon 1\nactive_file 7\ninactive_file 200000\n");
    machine_file(root, "/sys/fs/cg two/outer/inner/cpu.stat",
                 "usage_usec 1\nnr_periods 9\nnr_throttled 4\n");
    dlb_limits_read(root, &limits);
    assert_true(limits.quota_cpus == 1.5);
    assert_int_equal(limits.version, 2);
    assert_true(limits.memory_bytes == 1000000);
    assert_true(limits.memory_available == 500000);
    assert_true(limits.throttled_periods == 4);
    machine_root_remove(root);
}

static void finds_groups_of_version_1_inside_a_container(void **state)
{
    (void)state;
    char *root = machine_root();
    struct dlb_limits limits;
    machine_file(root, "/proc/self/cgroup",
                 "4:cpu,cpuacct:/docker/abc/job\n3:memory:/docker/abc\n"
                 "2:cpuset:/docker/abc\n");
    machine_file(root, "/proc/self/mountinfo",
                 "31 23 0:27 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup cgroup"
                 " rw,cpuset\n"
                 "32 23 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup"
                 " rw,cpu,cpuacct\n"
                 "33 23 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup"
                 " rw,memory\n");
    machine_file(root, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n");
    machine_file(root, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    machine_file(root, "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
    machine_file(root, "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    machine_file(root, "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                 "9223372036854771712\n");
    dlb_limits_read(root, &limits);
    assert_true(limits.quota_cpus == 2.5);
    assert_int_equal(limits.version, 1);
    machine_file(root, "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "50000\n");
    dlb_limits_read(root, &limits);
    assert_true(limits.quota_cpus == 0.5);
    assert_true(limits.memory_bytes == 0);
    machine_file(root, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
    machine_file(root, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "5000\n");
    dlb_limits_read(root, &limits);
    assert_true(limits.memory_bytes == 4096);
    assert_true(limits.memory_available == 0);
    machine_root_remove(root);
}

static char *printed(void (*print)(const struct dlb_topology *, FILE *), const char *spec)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct dlb_topology *t = machine_load(spec);
    print(t, out);
    fclose(out);
    dlb_topology_release(t);
    return text;
}

static void summarises_in_two_lines(void **state)
{
    (void)state;
    static const char *const spec[] = {NULL, "core:1", "pack:2 l3:4 core:8 pu:2"};
    for (int i = 0; i < 3; i++) {
        char *text = printed(dlb_topology_summary, spec[i]);
        int lines = 0;
        for (const char *c = text; *c; c++)
            lines += *c == '\n';
        assert_int_equal(lines, 2);
        assert_int_equal(strstr(text, "not this machine") != NULL, spec[i] != NULL);
        free(text);
    }
}

static void draws_equal_parts_once(void **state)
{
    (void)state;
    char *text = printed(dlb_topology_print, "pack:2 numa:1 l3:4 core:8 pu:2");
    assert_non_null(strstr(text, "2 x package"));
    assert_non_null(strstr(text, "4 x L3"));
    assert_non_null(strstr(text, "8 x core: PU 0 1"));
    assert_non_null(strstr(text, "one-l3"));
    assert_non_null(strstr(text, "\nsmt "));
    free(text);
    text = printed(dlb_topology_print, MACHINE_HYBRID);
    assert_non_null(strstr(text, "2 x core"));
    assert_non_null(strstr(text, "4 x core"));
    assert_non_null(strstr(text, "fastest kind"));
    free(text);
    text = printed(dlb_topology_print, "pu:1");
    assert_non_null(strstr(text, "core: PU 0"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_this_machine),
        cmocka_unit_test(loads_a_two_socket_server),
        cmocka_unit_test(accepts_the_words_that_users_write),
        cmocka_unit_test(refuses_bad_specs_with_a_sentence),
        cmocka_unit_test(loads_a_hybrid_from_xml),
        cmocka_unit_test(exports_what_it_can_load),
        cmocka_unit_test(the_quota_caps_the_threads),
        cmocka_unit_test(reads_no_limits_where_there_are_none),
        cmocka_unit_test(finds_the_tightest_group_of_version_2),
        cmocka_unit_test(finds_groups_of_version_1_inside_a_container),
        cmocka_unit_test(summarises_in_two_lines),
        cmocka_unit_test(draws_equal_parts_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
