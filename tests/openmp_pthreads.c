/*
 * Stands in for the OpenMP runtime under the thread sanitizer, which cannot see what
 * libgomp synchronises: the part of its interface that our sources use, made of mutexes
 * and condition variables.  The threads stay between regions, as libgomp's do.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { THREADS_MAX = 256 };

typedef void region_fn(void *data);

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t atomic_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t begun = PTHREAD_COND_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;

/* All under mutex. */
static region_fn *region;
static void *region_data;
static int region_size, running, workers;
static unsigned long region_number;

static int wanted;
static __thread int rank, size = 1;

void GOMP_parallel(region_fn *fn, void *data, unsigned threads, unsigned flags);
void GOMP_atomic_start(void);
void GOMP_atomic_end(void);
int omp_get_thread_num(void);
int omp_get_num_threads(void);
int omp_get_max_threads(void);
int omp_in_parallel(void);
void omp_set_num_threads(int threads);
void omp_set_dynamic(int dynamic);

static void *work(void *number)
{
    unsigned long seen = 0;
    rank = (int)(size_t)number;
    pthread_mutex_lock(&mutex);
    for (;;) {
        while (region_number == seen)
            pthread_cond_wait(&begun, &mutex);
        seen = region_number;
        if (rank >= region_size)
            continue;
        region_fn *fn = region;
        void *data = region_data;
        size = region_size;
        pthread_mutex_unlock(&mutex);
        fn(data);
        pthread_mutex_lock(&mutex);
        if (--running == 0)
            pthread_cond_signal(&ended);
    }
    return NULL;
}

/* Under mutex, so that the first region that a new worker sees is the one it is made for.
 */
static void make_workers(int threads)
{
    while (workers < threads - 1) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, (void *)(size_t)(workers + 1)))
            abort();
        pthread_detach(thread);
        workers++;
    }
}

void GOMP_parallel(region_fn *fn, void *data, unsigned threads, unsigned flags)
{
    (void)flags;
    int team = threads ? (int)threads : omp_get_max_threads();
    if (size > 1 || team > THREADS_MAX)
        team = 1;
    pthread_mutex_lock(&mutex);
    make_workers(team);
    region = fn;
    region_data = data;
    region_size = team;
    running = team - 1;
    region_number++;
    pthread_cond_broadcast(&begun);
    pthread_mutex_unlock(&mutex);
    int outer = size;
    size = team;
    fn(data);
    size = outer;
    pthread_mutex_lock(&mutex);
    while (running)
        pthread_cond_wait(&ended, &mutex);
    pthread_mutex_unlock(&mutex);
}

void GOMP_atomic_start(void)
{
    pthread_mutex_lock(&atomic_mutex);
}
void GOMP_atomic_end(void)
{
    pthread_mutex_unlock(&atomic_mutex);
}
int omp_get_thread_num(void)
{
    return rank;
}
int omp_get_num_threads(void)
{
    return size;
}
int omp_get_max_threads(void)
{
    return wanted ? wanted : (int)sysconf(_SC_NPROCESSORS_ONLN);
}
int omp_in_parallel(void)
{
    return size > 1;
}
void omp_set_num_threads(int threads)
{
    wanted = threads;
}
void omp_set_dynamic(int dynamic)
{
    (void)dynamic;
}
