/* The state of the fake driver: what stands in the file "state", as state.go writes it. */
#ifndef FAKENVML_STATE_H
#define FAKENVML_STATE_H

#include <nvml.h>
#include <stddef.h>

#define MAX_GPUS 16
#define MAX_PARTITIONS 7
#define MAX_PROCESSES 128
#define NAME 96

struct process {
	unsigned int pid;
	unsigned long long used;
};

struct partition {
	char uuid[NAME], profile[NAME];
	unsigned int gi, ci, slices;
	unsigned long long total;
	struct process processes[MAX_PROCESSES];
	int nprocesses;
};

struct gpu {
	char uuid[NAME], name[NAME], pci[NAME];
	int minor, major_cc, minor_cc;
	unsigned long long total, reserved;
	int utilization, temperature, pstate, power; /* -1: not supported */
	int ecc;				     /* -1: not supported, 0 off, 1 on */
	unsigned long long corrected, uncorrected;
	int remap; /* -1: not supported */
	unsigned int remap_corrected, remap_uncorrected, remap_pending, remap_failed;
	int recovery; /* -1: not supported */
	int mig;      /* -1: not supported, 0 off, 1 on */
	int problem;  /* nvmlReturn_t of every call about it, 0: none */
	int list;     /* 0: its processes are listed, 1: the list is empty, else the nvmlReturn_t of the calls */
	struct partition partitions[MAX_PARTITIONS];
	int npartitions;
	struct process processes[MAX_PROCESSES];
	int nprocesses;
};

struct state {
	char driver[NAME], library[NAME], hang[NAME];
	int cuda, init, generation;
	unsigned int latency; /* microseconds that each call takes */
	struct gpu gpus[MAX_GPUS];
	int ngpus;
};

/* The state as it is now, read again when the file was replaced. The lock is held until state_done. */
struct state *state_get(void);
void state_done(void);

/* Begins every call: takes as long as the state says that calls take, and blocks for as long as it says that this one hangs. */
void state_enter(const char *call);

/* The path of a file of the fake driver. */
void state_path(char *out, size_t size, const char *name);

#endif
