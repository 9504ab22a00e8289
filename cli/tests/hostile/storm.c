/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A storm of signals, loaded into an unmodified server (LD_PRELOAD): a handler that does not restart
 * system calls (no SA_RESTART), and a thread that signals every other thread of the process in turn,
 * STORM_RATE times a second in total. The file STORM_REPORT contains the number of handled signals.
 *
 * It is in C so that the released server can be tested: installing such a handler is unsafe code,
 * which the programs of this workspace do not contain.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST_THREADS = 256, MOST_AT_ONCE = 64 };

static atomic_ullong handled;
static double rate;

static void handle(int signal) {
    (void)signal;
    atomic_fetch_add_explicit(&handled, 1, memory_order_relaxed);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* Writes the ids of all threads but the calling one to `ids` and returns their number. */
static int threads(pid_t *ids) {
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; tasks && count < MOST_THREADS && (task = readdir(tasks));) {
        pid_t id = atoi(task->d_name);
        if (id > 0 && id != gettid()) ids[count++] = id;
    }
    if (tasks) closedir(tasks);
    return count;
}

static void report(int file) {
    char text[32];
    int length = snprintf(text, sizeof text, "%020llu\n", atomic_load(&handled));
    if (pwrite(file, text, length, 0) != length) abort();
}

static void *storm(void *report_name) {
    pid_t ids[MOST_THREADS];
    int count = 0, file = open(report_name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) abort();
    double began = now(), looked = 0;
    unsigned long long sent = 0;
    for (;;) {
        if (now() - looked > 0.02) {
            /* Threads may have started. */
            count = threads(ids);
            looked = now();
            report(file);
        }
        /* Signals that a busy machine delayed are sent later, at most MOST_AT_ONCE at a time: a
         * pending signal is not delivered twice. */
        for (int burst = 0; count > 0 && burst < MOST_AT_ONCE && sent < (now() - began) * rate; burst++)
            syscall(SYS_tgkill, getpid(), ids[sent++ % count], SIGUSR1);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return NULL;
}

__attribute__((constructor)) static void begin(void) {
    char *rate_text = getenv("STORM_RATE"), *report_name = getenv("STORM_REPORT");
    struct sigaction action = {.sa_handler = handle};
    pthread_t thread;
    sigset_t all, before;
    if (!rate_text || !report_name) return;
    rate = atof(rate_text);
    if (sigaction(SIGUSR1, &action, NULL)) abort();
    /* The storm thread blocks all signals, so that the server's own threads handle them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, storm, report_name)) abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
