package convert

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// unit is a unit file that is being read.
type unit struct {
	l     *launch
	keys  []unitKey
	full  string // its name
	exec  []unitKey
	args  []unitKey           // of a container
	held  map[string][]string // keys that were left out, by the reason
	lines map[string]spot     // the first place of each reason
}

// ofUnit are why keys of systemd are not in a pool file.
const (
	ofSandbox = "each engine is sandboxed by pool-managerd; poolctl render POOL shows its lines, and [sandbox] " +
		"relaxes some"
	ofUser     = "each engine runs as a user of its own; models and programs must be readable for others"
	ofOrder    = "pool-managerd starts its pools by itself, and they need no network"
	ofJournal  = "the log is in the journal: poolctl logs POOL"
	ofStart    = "commands beside the engine are not run; what they prepare belongs to a unit of its own"
	ofType     = "pool-managerd writes it: an engine is started when it answers"
	ofWatchdog = "pool-managerd probes each engine: [health]"
)

// unitReasons are those of single keys; unitPrefixes of whole families.
var unitReasons = reasons{
	"User": ofUser, "Group": ofUser, "SupplementaryGroups": ofUser, "DynamicUser": ofUser, "UMask": ofUser,
	"After": ofOrder, "Before": ofOrder, "Wants": ofOrder, "Requires": ofOrder, "BindsTo": ofOrder, "PartOf": ofOrder,
	"WantedBy": ofOrder, "RequiredBy": ofOrder, "Alias": ofOrder, "Also": ofOrder, "Documentation": ofOrder,
	"Conflicts":         ofOrder,
	"RequiresMountsFor": ofOrder, "DefaultDependencies": ofOrder, "Upholds": ofOrder,
	"StandardOutput": ofJournal, "StandardError": ofJournal, "StandardInput": ofJournal, "SyslogIdentifier": ofJournal,
	"SyslogLevel": ofJournal, "LogLevelMax": ofJournal,
	"ExecStartPre": ofStart, "ExecStartPost": ofStart, "ExecStop": ofStart, "ExecStopPost": ofStart,
	"ExecReload":    ofStart,
	"ExecCondition": ofStart,
	"Type":          ofType, "RemainAfterExit": ofType, "KillMode": ofType, "KillSignal": ofType,
	"PIDFile": ofType, "Slice": ofType,
	"NotifyAccess": ofType, "SendSIGKILL": ofType, "FinalKillSignal": ofType, "OOMPolicy": ofType, "Delegate": ofType,
	"WatchdogSec": ofWatchdog, "NoNewPrivileges": ofSandbox, "CapabilityBoundingSet": ofSandbox,
	"AmbientCapabilities":    ofSandbox,
	"MemoryDenyWriteExecute": ofSandbox, "LockPersonality": ofSandbox, "ReadOnlyPaths": ofSandbox,
	"InaccessiblePaths": ofSandbox,
	"BindPaths":         ofSandbox, "BindReadOnlyPaths": ofSandbox, "RemoveIPC": ofSandbox, "ProcSubset": ofSandbox,
	"ExecPaths": ofSandbox, "NoExecPaths": ofSandbox,
	"StateDirectory": "each replica has one: /var/lib/pool-engine/POOL.r0", "CacheDirectory": "each replica has " +
		"one: /var/cache/pool-engine/POOL.r0",
	"RuntimeDirectory": ofSandbox, "LogsDirectory": ofJournal,
	"LoadCredential": "the key that callers must send is api_key_file; other secrets are env_file",
	"SetCredential":  "the key that callers must send is api_key_file; other secrets are env_file",
	"OOMScoreAdjust": "pool-managerd sets it for engines",
}

var unitPrefixes = map[string]string{
	"Protect": ofSandbox, "Private": ofSandbox, "Restrict": ofSandbox, "SystemCall": ofSandbox, "Device": ofSandbox,
	"IPAddress": ofSandbox, "Condition": ofOrder, "Assert": ofOrder,
}

// setters take keys of [Service] and [Unit] that a pool file has.
func (u *unit) setters() map[string]func(k unitKey, why string) {
	l := u.l
	size := func(table, name string) func(unitKey, string) {
		return func(k unitKey, why string) { l.size(table, name, k.value, k.at, why) }
	}
	number := func(table, name string) func(unitKey, string) {
		return func(k unitKey, why string) { l.number(table, name, k.value, k.at, why) }
	}
	text := func(table, name string) func(unitKey, string) {
		return func(k unitKey, why string) { l.key(table, name, quoted(k.value), why) }
	}
	span := func(table, name string) func(unitKey, string) {
		return func(k unitKey, why string) {
			if k.value != "infinity" {
				l.span(table, name, k.value, k.at, why)
			}
		}
	}
	return map[string]func(unitKey, string){
		"MemoryMax": size("limits", "memory_max"), "MemoryLimit": size("limits", "memory_max"),
		"MemoryHigh": size("limits", "memory_high"), "LimitMEMLOCK": u.memlock, "TasksMax": u.count("tasks_max"),
		"LimitNOFILE": u.count("nofile"), "CPUQuota": text("limits", "cpu_quota"), "AllowedCPUs": u.cpus,
		"CPUAffinity": u.cpus,
		"CPUWeight":   number("limits", "cpu_weight"), "IOWeight": number("limits", "io_weight"),
		"Nice":       number("limits", "nice"),
		"NUMAPolicy": u.numaPolicy, "NUMAMask": text("limits", "numa_nodes"), "Restart": u.restart,
		"RestartSec": span("restart", "initial"), "RestartMaxDelaySec": span("restart", "max"), "RestartSteps": u.left,
		"StartLimitBurst": number("restart", "breaker_failures"), "StartLimitIntervalSec": u.limitInterval,
		"StartLimitInterval": u.limitInterval, "TimeoutStartSec": span("health", "start_deadline"),
		"TimeoutStopSec": span("drain", "deadline"), "TimeoutSec": span("drain", "deadline"),
		"ReadWritePaths": u.writable,
	}
}

// service takes the keys of [Unit], [Service] and [Install].
func (u *unit) service() {
	setters := u.setters()
	for _, k := range u.keys {
		why := k.name + "=" + k.value
		set, settable := setters[k.name]
		switch {
		case k.section == "Container" || k.name == "Description":
		case u.l.box != nil && slices.Contains([]string{"Environment", "EnvironmentFile", "WorkingDirectory"}, k.name):
			u.l.left(k.at, "left out ([Service] %s): it is podman's, and not the container's", k.name)
		case k.section != "Service" && k.section != "Unit" && k.section != "Install":
			u.l.left(k.at, "[%s] %s=: unknown section; left out", k.section, k.name)
		case k.name == "ExecStart":
			if k.value == "" {
				u.exec = nil // as a drop-in resets it
				continue
			}
			u.exec = append(u.exec, k)
		case k.name == "Environment":
			u.environment(k)
		case k.name == "EnvironmentFile":
			u.environmentFile(k)
		case k.name == "WorkingDirectory":
			u.l.cwd = strings.TrimPrefix(k.value, "-")
			u.l.left(k.at, "%s: an engine begins in its state directory; write absolute paths in args and env", why)
		case settable && k.value != "":
			set(k, why)
		case settable:
			u.l.keys = slices.DeleteFunc(u.l.keys, func(e entry) bool { return strings.HasPrefix(e.why, k.name+"=") })
		case k.value != "":
			u.left(k, why)
		}
	}
}

// left keeps a key that has no counterpart, with the others that have the same reason.
func (u *unit) left(k unitKey, _ string) {
	why, known := unitReasons[k.name]
	for prefix, of := range unitPrefixes {
		if !known && strings.HasPrefix(k.name, prefix) {
			why = of
		}
	}
	if why == "" {
		u.l.notes = append(u.l.notes, Note{k.at.file, k.at.line, plain(fmt.Sprintf("no key of a pool file, left "+
			"out: [%s] %s=%s",
			k.section, k.name, k.value))})
		return
	}
	u.hold(k, why)
}

// hold keeps a key for the note of its reason.
func (u *unit) hold(k unitKey, why string) {
	if _, has := u.lines[why]; !has {
		u.lines[why] = k.at
	}
	if !slices.Contains(u.held[why], k.name) {
		u.held[why] = append(u.held[why], k.name)
	}
}

// heldNames is how many keys one note names.
const heldNames = 10

// finish makes the command line, and the notes of what was held.
func (u *unit) finish() {
	for _, why := range slices.Sorted(maps.Keys(u.held)) {
		for names := range slices.Chunk(u.held[why], heldNames) { // a note is cut where it is long
			u.l.left(u.lines[why], "left out (%s): %s", strings.Join(names, ", "), why)
		}
	}
	commands := u.exec
	if u.l.box != nil {
		for _, k := range u.exec {
			u.l.left(k.at, "ExecStart=: a quadlet's is written by podman; left out")
		}
		commands = u.args
	}
	if len(commands) == 0 {
		return
	}
	if len(commands) > 1 {
		u.l.left(commands[1].at, "%s=: there are %d, and an engine has one; the others were left out",
			commands[1].name, len(commands))
	}
	k := commands[0]
	u.l.at = k.at
	words, err := asUnit.split(k.value)
	if err != nil {
		u.l.left(k.at, "%s=: %v", k.name, err)
		return
	}
	words = u.expand(words, k.at)
	if len(words) > 0 && u.l.box == nil {
		if bare := strings.TrimLeft(words[0], "@-:+!|"); bare != words[0] {
			u.l.left(k.at, "ExecStart=%s: its prefix was left out", words[0])
			words[0] = bare
		}
	}
	u.l.argv = append(u.l.argv, words...)
}

// expand replaces specifiers and variables as PID 1 would, as far as the file has their values.
func (u *unit) expand(words []string, at spot) (out []string) {
	values := make(map[string]string)
	for _, v := range u.l.env {
		values[v.name] = v.text
	}
	for _, word := range words {
		word = u.specifiers(word, at)
		if name, whole := strings.CutPrefix(word, "$"); whole && assignment(name+"=") {
			if value, known := values[name]; known {
				out = append(out, strings.Fields(value)...)
				continue
			}
		}
		for _, v := range u.l.env {
			if word = strings.ReplaceAll(word, "${"+v.name+"}", v.text); len(word) > maxText {
				break
			}
		}
		if len(word) > maxText {
			u.l.left(at, "a word of more than %d bytes was left out", maxText)
			continue
		}
		if strings.Contains(strings.ReplaceAll(word, "$$", ""), "$") {
			u.l.left(at, "%s: a variable that this file does not set; pool-managerd expands nothing, write its "+
				"value", word)
		}
		out = append(out, strings.ReplaceAll(word, "$$", "$"))
	}
	return out
}

// specifiers replaces those of systemd.unit(5) that the name of the unit decides.
func (u *unit) specifiers(word string, at spot) string {
	stem := strings.TrimSuffix(u.full, path.Ext(u.full))
	prefix, instance, _ := strings.Cut(stem, "@")
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		if word[i] != '%' || i+1 == len(word) {
			b.WriteByte(word[i])
			continue
		}
		i++
		switch word[i] {
		case '%':
			b.WriteByte('%')
		case 'n':
			b.WriteString(u.full)
		case 'N':
			b.WriteString(stem)
		case 'p', 'P':
			b.WriteString(prefix)
		case 'i', 'I':
			b.WriteString(instance)
		default:
			u.l.left(at, "%s: write what %%%c stands for", word, word[i])
			b.WriteString("%" + word[i:i+1])
		}
	}
	return b.String()
}
