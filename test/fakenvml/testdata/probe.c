/* Prints, for each line of its input, the state as the library's reader has it, in the form in which it is written, and then "end". */
#include <stdio.h>

#include "state.h"

static void optional(const char *key, int value)
{
	if (value >= 0)
		printf("%s %d\n", key, value);
}

static void processes(const struct process *list, int n)
{
	for (int i = 0; i < n; i++)
		printf("process %u %llu\n", list[i].pid, list[i].used);
}

static void partition(const struct partition *p)
{
	printf("partition\nuuid %s\nprofile %s\ninstance %u %u %u\nmemory %llu\n", p->uuid, p->profile, p->gi, p->ci, p->slices, p->total);
	processes(p->processes, p->nprocesses);
}

static void gpu(const struct gpu *g)
{
	printf("gpu\nuuid %s\nname %s\npci %s\n", g->uuid, g->name, g->pci);
	optional("minor", g->minor);
	if (g->major_cc > 0)
		printf("cc %d %d\n", g->major_cc, g->minor_cc);
	printf("memory %llu %llu\n", g->total, g->reserved);
	optional("utilization", g->utilization);
	optional("temperature", g->temperature);
	optional("pstate", g->pstate);
	optional("power", g->power);
	if (g->ecc >= 0)
		printf("ecc %d %llu %llu\n", g->ecc, g->corrected, g->uncorrected);
	if (g->remap >= 0)
		printf("remap %u %u %u %u\n", g->remap_corrected, g->remap_uncorrected, g->remap_pending, g->remap_failed);
	optional("recovery", g->recovery);
	optional("mig", g->mig);
	printf("problem %d\n", g->problem);
	if (g->list)
		printf("list %d\n", g->list);
	processes(g->processes, g->nprocesses);
	for (int i = 0; i < g->npartitions; i++)
		partition(&g->partitions[i]);
}

int main(void)
{
	char line[16];

	while (fgets(line, sizeof line, stdin)) {
		const struct state *s = state_get();

		printf("driver %s\nlibrary %s\ncuda %d\ninit %d\ngeneration %d\n", s->driver, s->library, s->cuda, s->init, s->generation);
		if (*s->hang)
			printf("hang %s\n", s->hang);
		if (s->latency)
			printf("latency %u\n", s->latency);
		for (int i = 0; i < s->ngpus; i++)
			gpu(&s->gpus[i]);
		printf("end\n");
		fflush(stdout);
		state_done();
	}
	return 0;
}
