extern "C" {
#include "core/base.h"
}
#include "measure/timer.h"

#include <benchmark/benchmark.h>

#include <exception>
#include <iostream>
#include <new>
#include <ostream>
#include <string>
#include <vector>

namespace
{

struct null_reporter : benchmark::BenchmarkReporter {
    bool ReportContext(const Context &) override { return true; }
    void ReportRuns(const std::vector<Run> &) override {}
};

/* The library warns on the C++ streams by itself: while it looks at the processor, and at
 * its own options.  Nothing of that may get between our lines. */
class silence
{
  public:
    silence() : out(std::cout.rdbuf(nullptr)), err(std::cerr.rdbuf(nullptr)) {}
    ~silence()
    {
        std::cout.rdbuf(out);
        std::cerr.rdbuf(err);
    }
    silence(const silence &) = delete;
    silence &operator=(const silence &) = delete;

  private:
    std::streambuf *out, *err;
};

/* Every option of the library can also be set by the environment (BENCHMARK_OUT,
 * BENCHMARK_LIST_TESTS, …) and would then skip rounds, write files or end the program.
 * Options that a version does not know are left alone by it. */
void settle_options()
{
    const char *const options[] = {"dlbench",
                                   "--benchmark_filter=all",
                                   "--benchmark_out=",
                                   "--benchmark_list_tests=false",
                                   "--benchmark_dry_run=false",
                                   "--benchmark_repetitions=1",
                                   "--benchmark_min_time=0.5",
                                   "--benchmark_min_warmup_time=0",
                                   "--benchmark_format=console",
                                   "--benchmark_out_format=json",
                                   "--benchmark_time_unit=ns",
                                   "--benchmark_enable_random_interleaving=false",
                                   "--benchmark_perf_counters=",
                                   "--v=0"};
    std::vector<std::string> text(std::begin(options), std::end(options));
    std::vector<char *> argument;
    for (std::string &each : text) {
        argument.push_back(&each[0]);
    }
    argument.push_back(nullptr);
    int arguments = static_cast<int>(text.size());
    benchmark::Initialize(&arguments, argument.data());
}

int64_t run_rounds(const char *name, int64_t rounds, dlb_round_fn *round, void *context)
{
    int64_t done = 0;
    silence quiet;
    std::ostream nowhere(nullptr);
    null_reporter reporter;
    reporter.SetOutputStream(&nowhere);
    reporter.SetErrorStream(&nowhere);
    settle_options();
    benchmark::ClearRegisteredBenchmarks();
    benchmark::RegisterBenchmark(name,
                                 [&](benchmark::State &state) {
                                     for (auto ignored : state) {
                                         (void)ignored;
                                         double ns = round(context);
                                         if (ns < 0) {
                                             state.SkipWithError("ended early");
                                             break;
                                         }
                                         state.SetIterationTime(ns * 1e-9);
                                         done++;
                                     }
                                 })
        ->UseManualTime()
        ->Repetitions(1)
        ->Iterations(rounds);
    size_t matched = benchmark::RunSpecifiedBenchmarks(&reporter, "all");
    benchmark::ClearRegisteredBenchmarks();
    return matched == 1 ? done : -1;
}

} // namespace

enum dlb_status dlb_timer_run(const char *name, int64_t rounds, dlb_round_fn *round,
                              void *context, int64_t *done, struct dlb_error *error)
{
    *done = 0;
    if (rounds <= 0) {
        return DLB_OK;
    }
    try {
        *done = run_rounds(name, rounds, round, context);
    } catch (const std::bad_alloc &) {
        return dlb_fail(error, DLB_NOMEM, "Memory ran out while timing %s.", name);
    } catch (const std::exception &fault) {
        return dlb_fail(error, DLB_FAULT, "Google benchmark failed while timing %s: %s.",
                        name, fault.what());
    } catch (...) {
        return dlb_fail(error, DLB_FAULT, "Google benchmark failed while timing %s.",
                        name);
    }
    if (*done < 0) {
        *done = 0;
        return dlb_fail(error, DLB_FAULT,
                        "Google benchmark %s did not take the measurement %s on.",
                        dlb_timer_version(), name);
    }
    return DLB_OK;
}

const char *dlb_timer_version(void)
{
    return DLB_GBENCH_VERSION;
}
