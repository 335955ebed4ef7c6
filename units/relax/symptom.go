package relax

import (
	"regexp"
	"sync"

	"github.com/pool-managerd/pool-managerd/units/pattern"
)

// symptom is a phrase of a log by which a program shows that the sandbox stopped it.
type symptom struct {
	pattern *regexp.Regexp
	// find is the finding for a line that matches; ok is false if it does not explain this run.
	find    func(run Run, line string) (f Finding, ok bool)
	manners manner
}

// manner is how a symptom shows.
type manner int

// The manners, in the order of their precedence.
const (
	named  manner = 1 << iota // one line names the call or the file, and the error
	nearby                    // a line has the error, and one shortly before it the call
	vague                     // a line has the error alone, which may have another cause
)

// missing is the finding that a relaxation is missing.
func missing(name string) func(Run, string) (Finding, bool) {
	return func(run Run, _ string) (Finding, bool) { return run.relaxation(name) }
}

// always is the same finding for each run.
func always(text, hint string) func(Run, string) (Finding, bool) {
	return func(Run, string) (Finding, bool) { return Finding{text, hint}, true }
}

// denied are the phrases of EPERM and EACCES in glibc, Python, node and Go.
const denied = `(?:operation not permitted|permission denied|EPERM|EACCES|not allowed|errno[:= ]{1,3}(?:1|13)\b)`

// unnamed are errors of which Python prints the call some lines before.
var unnamed = pattern.Lazy(`(?i)` + denied + `|no such file or directory$`)

// failed are those, and what programs write instead of the error.
const failed = `(?:` + denied + `|failed|failure|cannot|could not|unable)`

// absent are the phrases of a file that is not there.
const absent = `(?:no such file|ENOENT|not found|does not exist|not exist|not a directory|not a file|cannot open|could not open|` +
	`unable to open|failed to open|can't open|failed to read|failed to parse|could not read|cannot read|FileNotFound|cannot access|` +
	`permission denied|EACCES)`

// figures are the files of /proc that are no processes.
const figures = `/proc/(?:meminfo|stat|cpuinfo|loadavg|vmstat|uptime|version|swaps|partitions|diskstats|devices|driver|modules|` +
	`filesystems|buddyinfo|zoneinfo|mounts|net|sys)\b`

// table is what Explain looks for. Its patterns take half a megabyte, so they are compiled when an
// engine's end is first explained.
var table = sync.OnceValue(symptoms)

// symptoms are in the order of their precedence: those that name a call or a file before those
// that name an error alone.
func symptoms() []symptom {
	on := func(text string, find func(Run, string) (Finding, bool)) symptom {
		return symptom{pattern: regexp.MustCompile(`(?i)` + text), find: find, manners: named}
	}
	call := func(text string, find func(Run, string) (Finding, bool)) symptom {
		s := on(text, find)
		s.manners |= nearby
		return s
	}
	alone := func(text string, find func(Run, string) (Finding, bool)) symptom {
		s := on(text, find)
		s.manners = vague
		return s
	}
	known := []symptom{
		on(figures+`.*`+absent+`|`+absent+`.*`+figures, missing(Proc)),
		call(`(?:affinity|taskset|cpubind).*`+failed+`|`+failed+`.*affinity`, missing(Affinity)),
		call(`(?:set_mempolicy|\bmbind\b|move_pages|migrate_pages|libnuma|numactl|numa_).*`+failed+
			`|`+failed+`.*(?:set_mempolicy|\bmbind\b)`, missing(NUMA)),
		call(`(?:setpriority|sched_?setscheduler|setschedparam|sched_setparam|sched_setattr|ioprio_set|process priority|thread priority|\bnice\b).*`+failed+
			`|`+failed+`.*(?:setpriority|sched_setscheduler|set priority|process priority|thread priority|niceness|pid \d+'s policy)`, missing(Priority)),
		// ZeroMQ, which vLLM and SGLang use, ends the process where it may not set the scheduling
		// of its threads, and names its own source alone.
		on(denied+` \(\S*thread\.cpp:\d+\)`, missing(Priority)),
		on(`getifaddrs|rtnetlink|netlink.*(?:`+failed+`|not supported)|uv_interface_addresses|no socket interface found`, missing(Netlink)),
		on(`address family not supported|EAFNOSUPPORT`, Run.family),
		on(`\bAppImage\b|\bfuse: (?:failed|device)|\bfusermount3?:|\blibfuse\b`, always(
			"the sandbox lets no program mount a file system (SystemCallFilter=)",
			"Unpack an AppImage once, by its option --appimage-extract, and name the program in it as [provisioning] binary.")),
		on(`/dev/shm/.*(?:failed to map segment|`+denied+`)|`+denied+`.*/dev/shm/`, missing(ShmExec)),
		call(`(?:/var)?/run/\S+.*(?:`+absent+`|connection refused)|(?:`+absent+`).*/run/|failed to connect to bus|`+
			`connect to the docker daemon`, Run.outside),
		on(`/dev/\w+.*(?:`+absent+`|`+denied+`)|(?:`+absent+`|`+denied+`).*/dev/\w+`, Run.device),
		on(`can't start new thread|(?:pthread_create|create (?:a |native )?thread|thread constructor).*`+
			`(?:failed|EAGAIN|unable|temporarily unavailable)|(?:unable|failed) to (?:create|spawn) (?:a |native |new |OS )*thread|thread creation failed|\bspawn \S+ EAGAIN|`+
			`\bfork\b.*resource temporarily unavailable|resource temporarily unavailable.*\bfork`, limit("processes and threads", "TasksMax=", "tasks_max")),
		on(`too many open files|\bEMFILE\b`, limit("open files", "LimitNOFILE=", "nofile")),
		on(`not allowed to raise maximum limit|(?:setrlimit|ulimit).*`+denied, always(
			"the sandbox lets no process raise its own limits (CapabilityBoundingSet=)",
			"Set the limit in the pool's file: [limits] nofile, memlock or tasks_max.")),
		on(`executable (?:memory|stack|page)|page as executable|runtime code generation failed|JIT session error|failed to materialize symbols|code (?:cache|range|page).*`+failed+`|`+failed+`.*code (?:cache|range)|SetPermissions|PROT_EXEC|`+
			`cannot make segment writable for relocation|Fatal process o(?:ut of|om).*Code|`+
			`\bm(?:protect|map)\b.*`+denied+`|unable to allocate section memory|memory (?:readonly and )?executable|`+
			`Check failed: (?:.*permission|.*mprotect|.*allocat)|write\+execute memory|commit_memory.*`+denied+`|\bcan't protect\b|could not create a primitive(?:$|[^ ])|ffi_prep_closure|libffi.*`+failed, missing(JIT)),
		call(`(?:unshare|\bsetns\b|new namespace|user namespace|CLONE_NEW|bwrap|setuid sandbox|SUID sandbox).*(?:no permissions|`+failed+
			`)|`+failed+`.*(?:unshare|namespace)|cannot clone: `+denied, always(
			"the sandbox lets no process make a namespace (RestrictNamespaces=)",
			"Turn the sandbox of the program itself off, as --no-sandbox does: an engine is in one already.")),
		call(`(?:setuid|setgid|setgroups|setresuid|\bchown|\bsudo\b|\bgosu\b|su-exec).*`+denied+
			`|`+denied+`.*(?:setuid|setgid|setgroups|chown)|failed switching to .*`+denied+`|no new privileges|\bsudo: effective uid|\bsu: (?:authentication|must|cannot|permission)`, always(
			"the sandbox lets no process become another user (NoNewPrivileges=, DynamicUser=)",
			"Leave sudo, gosu or chown out of the command: an engine runs as a user of its own.")),
		on(`read-only file system|EROFS|no locator available for file|trying to write in your cache folder`, Run.readOnly),
		on(absent+`|NoSuchFile|does not appear to have a file|\bcan't load |HFValidationError|is not a local folder`, Run.hidden),
		on(`\b127\.0\.1\.1\b.*(?:time|`+denied+`)|(?:timed out|timeout|ETIMEDOUT).*\b127\.0\.1\.1\b`, missing(HostAddress)),
		on(`temporary failure in name resolution|could not resolve host|EAI_AGAIN|NameResolutionError|getaddrinfo.*(?:ENOTFOUND|failed)|`+
			`network is unreachable|ENETUNREACH|max retries exceeded with url|we couldn't connect to|name or service not known|UnknownHostException|no such host|failed to lookup address|dns error|`+
			`\blookup \S+ on |dial (?:tcp|udp) \S+ i/o timeout|LocalEntryNotFoundError|cannot find the requested files in|OfflineModeIsEnabled|`+
			`connect\w* (?:timed out|timeout)|ConnectTimeout|\bETIMEDOUT\b`, Run.elsewhere),
		on(`failed to map segment from shared object`, func(_ Run, line string) (Finding, bool) {
			return Finding{"a library lies on a file system that is mounted noexec: " + pathIn(line),
				"Move it, or mount its file system with exec."}, true
		}),
		on(`mlock|RLIMIT_MEMLOCK|ulimit -l|\bibv_reg_mr`, missing(Mlock)),
	}
	for _, f := range denials() {
		known = append(known, call(`(?:`+f.calls+`).*`+denied+`|`+denied+`.*(?:`+f.calls+`)`,
			func(Run, string) (Finding, bool) { return f.finding(), true }))
	}
	return append(known,
		alone(`operation not permitted|EPERM`, always(
			"the sandbox may have blocked a call (SystemCallFilter=)",
			`If its log names no call, try [sandbox] allow = ["affinity", "numa", "priority", "netlink"] in the pool's file, and `+
				"take out one at a time. Mounts, clocks, debuggers and raw sockets are permitted to no engine.")),
	)
}
