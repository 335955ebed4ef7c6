/* Reads the file "state". It is replaced by rename, so that a reader sees one version whole. */
#include "state.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct state now;
static struct stat seen;
static FILE *held; /* what "now" was read from: open, so that its inode is not given to the next version */

void state_path(char *out, size_t size, const char *name)
{
	const char *dir = getenv("FAKENVML_DIR");

	snprintf(out, size, "%s/%s", dir && *dir ? dir : "/run/fakegpu", name);
}

static void gpu_default(struct gpu *g)
{
	memset(g, 0, sizeof *g);
	g->minor = g->major_cc = -1;
	g->utilization = g->temperature = g->pstate = g->power = -1;
	g->ecc = g->remap = g->recovery = g->mig = -1;
}

static void add_process(struct process *list, int *n, const char *value)
{
	struct process p;

	if (*n < MAX_PROCESSES && sscanf(value, "%u %llu", &p.pid, &p.used) == 2)
		list[(*n)++] = p;
}

static void read_gpu(struct gpu *g, const char *key, const char *value)
{
	if (!strcmp(key, "uuid")) snprintf(g->uuid, NAME, "%s", value);
	else if (!strcmp(key, "name")) snprintf(g->name, NAME, "%s", value);
	else if (!strcmp(key, "pci")) snprintf(g->pci, NAME, "%s", value);
	else if (!strcmp(key, "minor")) g->minor = atoi(value);
	else if (!strcmp(key, "cc")) sscanf(value, "%d %d", &g->major_cc, &g->minor_cc);
	else if (!strcmp(key, "memory")) sscanf(value, "%llu %llu", &g->total, &g->reserved);
	else if (!strcmp(key, "utilization")) g->utilization = atoi(value);
	else if (!strcmp(key, "temperature")) g->temperature = atoi(value);
	else if (!strcmp(key, "pstate")) g->pstate = atoi(value);
	else if (!strcmp(key, "power")) g->power = atoi(value);
	else if (!strcmp(key, "ecc")) sscanf(value, "%d %llu %llu", &g->ecc, &g->corrected, &g->uncorrected);
	else if (!strcmp(key, "remap"))
		g->remap = sscanf(value, "%u %u %u %u", &g->remap_corrected, &g->remap_uncorrected, &g->remap_pending, &g->remap_failed) == 4;
	else if (!strcmp(key, "recovery")) g->recovery = atoi(value);
	else if (!strcmp(key, "mig")) g->mig = atoi(value);
	else if (!strcmp(key, "problem")) g->problem = atoi(value);
	else if (!strcmp(key, "list")) g->list = atoi(value);
	else if (!strcmp(key, "process")) add_process(g->processes, &g->nprocesses, value);
}

static void read_partition(struct partition *p, const char *key, const char *value)
{
	if (!strcmp(key, "uuid")) snprintf(p->uuid, NAME, "%s", value);
	else if (!strcmp(key, "profile")) snprintf(p->profile, NAME, "%s", value);
	else if (!strcmp(key, "instance")) sscanf(value, "%u %u %u", &p->gi, &p->ci, &p->slices);
	else if (!strcmp(key, "memory")) sscanf(value, "%llu", &p->total);
	else if (!strcmp(key, "process")) add_process(p->processes, &p->nprocesses, value);
}

static void read_host(struct state *s, const char *key, const char *value)
{
	if (!strcmp(key, "driver")) snprintf(s->driver, NAME, "%s", value);
	else if (!strcmp(key, "library")) snprintf(s->library, NAME, "%s", value);
	else if (!strcmp(key, "hang")) snprintf(s->hang, NAME, "%s", value);
	else if (!strcmp(key, "latency")) s->latency = strtoul(value, NULL, 10);
	else if (!strcmp(key, "cuda")) s->cuda = atoi(value);
	else if (!strcmp(key, "init")) s->init = atoi(value);
	else if (!strcmp(key, "generation")) s->generation = atoi(value);
}

static void parse(FILE *f, struct state *s)
{
	char line[512];
	struct gpu *g = NULL;
	struct partition *p = NULL;

	while (fgets(line, sizeof line, f)) {
		char *value = strchr(line, ' ');

		line[strcspn(line, "\n")] = 0;
		if (value)
			*value++ = 0;
		else
			value = line + strlen(line);
		if (!strcmp(line, "gpu") && s->ngpus < MAX_GPUS) {
			g = &s->gpus[s->ngpus++];
			gpu_default(g);
			p = NULL;
		} else if (!strcmp(line, "partition") && g && g->npartitions < MAX_PARTITIONS) {
			p = &g->partitions[g->npartitions++];
		} else if (p) {
			read_partition(p, line, value);
		} else if (g) {
			read_gpu(g, line, value);
		} else {
			read_host(s, line, value);
		}
	}
}

/* Forgets what was read. */
static void forget(void)
{
	if (held)
		fclose(held);
	held = NULL;
	memset(&now, 0, sizeof now);
	memset(&seen, 0, sizeof seen);
}

struct state *state_get(void)
{
	char path[256];
	struct stat st;
	FILE *f;

	pthread_mutex_lock(&lock);
	state_path(path, sizeof path, "state");
	if (stat(path, &st)) { /* no fake driver runs: none is loaded */
		forget();
		now.init = NVML_ERROR_DRIVER_NOT_LOADED;
		return &now;
	}
	if (held && st.st_dev == seen.st_dev && st.st_ino == seen.st_ino && st.st_size == seen.st_size && !memcmp(&st.st_mtim, &seen.st_mtim, sizeof st.st_mtim))
		return &now;
	f = fopen(path, "re");
	if (!f)
		return &now;
	forget();
	held = f;
	fstat(fileno(f), &seen);
	parse(f, &now);
	return &now;
}

void state_done(void) { pthread_mutex_unlock(&lock); }

void state_enter(const char *call)
{
	struct state *s = state_get();
	unsigned int latency = s->latency;
	int hangs = !strcmp(s->hang, call);

	state_done();
	if (latency)
		usleep(latency);
	while (hangs) {
		usleep(20000);
		hangs = !strcmp(state_get()->hang, call);
		state_done();
	}
}
