package convert

import (
	"slices"
	"strings"
)

// quadletReasons are those of the keys of [Container].
var quadletReasons = reasons{
	"ContainerName": ofType, "HostName": ofType, "AutoUpdate": ofType, "Pull": ofType, "Label": ofType,
	"Annotation": ofType,
	"RunInit":    ofType, "Notify": ofType, "StopTimeout": ofType, "StopSignal": ofType, "GlobalArgs": ofType,
	"ServiceName": ofType,
	"Network":     ofOrder, "NetworkAlias": ofOrder, "IP": ofOrder, "DNS": ofOrder, "Pod": ofOrder, "AddHost": ofOrder,
	"User": ofUser, "Group": ofUser, "UserNS": ofUser, "GroupAdd": ofUser, "UIDMap": ofUser, "GIDMap": ofUser,
	"SubUIDMap": ofUser,
	"SubGIDMap": ofUser, "Secret": "the key that callers must send is api_key_file; other secrets are env_file",
	"SecurityLabelDisable": ofSandbox, "SecurityLabelType": ofSandbox, "NoNewPrivileges": ofSandbox,
	"ReadOnly":      ofSandbox,
	"ReadOnlyTmpfs": ofSandbox, "DropCapability": ofSandbox, "AddCapability": ofSandbox,
	"SeccompProfile": ofSandbox, "Tmpfs": ofSandbox,
	"Mask": ofSandbox, "Unmask": ofSandbox, "Sysctl": ofSandbox, "LogDriver": ofJournal, "LogOpt": ofJournal,
	"HealthCmd": ofWatchdog, "HealthInterval": ofWatchdog, "HealthRetries": ofWatchdog, "HealthTimeout": ofWatchdog,
	"HealthStartPeriod": ofWatchdog, "HealthOnFailure": ofWatchdog, "Timezone": ofType,
}

// quadlet takes the keys of [Container], as podman-systemd.unit(5) has them.
func (u *unit) quadlet() {
	l := u.l
	entrypoint := ""
	for _, k := range u.keys {
		if k.section != "Container" {
			continue
		}
		why := k.name + "=" + k.value
		switch k.name {
		case "Image":
			l.box.image = k.value
		case "Exec":
			u.args = []unitKey{k} // the last one counts
		case "Entrypoint":
			entrypoint = k.value
		case "PublishPort":
			l.publish(k.value, k.at)
		case "AddDevice":
			l.addDevice(strings.TrimPrefix(k.value, "-"), k.at)
		case "Volume":
			l.volume(k.value, k.at)
		case "Mount":
			l.mount(k.value)
		case "Environment":
			u.environment(k)
		case "EnvironmentFile":
			u.environmentFile(k)
		case "WorkingDir":
			l.cwd = k.value
		case "ShmSize":
			l.size("sandbox", "shm", k.value, k.at, why)
		case "Memory":
			l.size("limits", "memory_max", k.value, k.at, why)
		case "PidsLimit":
			l.number("limits", "tasks_max", k.value, k.at, why)
		case "PodmanArgs":
			u.podmanArgs(k)
		default:
			u.unknown(k)
		}
	}
	if entrypoint != "" {
		l.argv, l.box.entry = []string{entrypoint}, entrypoint
	}
}

func (u *unit) unknown(k unitKey) {
	if why, known := quadletReasons[k.name]; known {
		u.hold(k, why)
		return
	}
	u.l.left(k.at, "no key of a pool file, left out: [%s] %s=%s", k.section, k.name, k.value)
}

// podmanArgs takes options of "podman run" beside the keys.
func (u *unit) podmanArgs(k unitKey) {
	words, err := asUnit.split(k.value)
	if err != nil {
		u.l.left(k.at, "PodmanArgs=: %v", err)
		return
	}
	for len(words) > 0 {
		name, value, inline := strings.Cut(words[0], "=")
		words = words[1:]
		if !inline && !slices.Contains(bareFlags, name) && len(words) > 0 && !strings.HasPrefix(words[0], "-") {
			value, words = words[0], words[1:]
		}
		if !u.l.runFlag(name, value) && !slices.Contains(harmless, name) {
			u.l.left(k.at, "PodmanArgs=%s: left out", strings.TrimSpace(name+" "+value))
		}
	}
}
