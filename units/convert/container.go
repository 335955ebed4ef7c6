package convert

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// bareFlags are the options of "run" without a value, as docker and podman have them.
var bareFlags = []string{
	"--rm", "-d", "--detach", "--init", "-i", "--interactive", "-t", "--tty", "-it", "-ti", "-dit", "-itd", "-dt",
	"--privileged", "--read-only", "-P", "--publish-all", "--no-healthcheck", "--replace", "--quiet", "-q",
	"--sig-proxy", "--oom-kill-disable", "--disable-content-trust",
}

// harmless are options of "run" that say how the container is kept, and nothing about the engine.
var harmless = append([]string{"--name", "--pull", "--label", "-l", "--hostname", "-h", "--ipc", "--runtime",
	"--log-driver", "--log-opt", "--cidfile", "--pidfile", "--stop-signal", "--platform"}, bareFlags...)

// container reads "docker run …" or "podman run …".
func (l *launch) container(words []string) error {
	if words[0] == "container" && len(words) > 1 {
		words = words[1:]
	}
	if words[0] != "run" {
		return fmt.Errorf("%q starts no container; want run", strings.Join([]string{path.Base(l.argv[0]),
			words[0]}, " "))
	}
	l.box = &box{ports: make(map[string]string)}
	entry := ""
	words = words[1:]
	for len(words) > 0 && strings.HasPrefix(words[0], "-") {
		name, value, inline := strings.Cut(words[0], "=")
		words = words[1:]
		if !inline && !slices.Contains(bareFlags, name) {
			if len(words) == 0 {
				return fmt.Errorf("%s has no value", name)
			}
			value, words = words[0], words[1:]
		}
		if name == "--entrypoint" {
			entry = value
			continue
		}
		if !l.runFlag(name, value) && !slices.Contains(harmless, name) {
			l.left(l.at, "%s: left out", strings.TrimSpace(name+" "+value))
		}
	}
	if len(words) == 0 {
		return fmt.Errorf("the command line names no image")
	}
	l.box.image, l.box.entry, l.argv = words[0], entry, words[1:]
	if entry != "" {
		l.argv = append([]string{entry}, l.argv...)
	}
	return nil
}

// runFlag takes an option of "run", and returns whether it knows it.
func (l *launch) runFlag(name, value string) bool {
	why := name + " " + value
	switch name {
	case "-v", "--volume":
		l.volume(value, l.at)
	case "--mount":
		l.mount(value)
	case "-e", "--env":
		if assignment(value) {
			l.setEnv(value)
		} else {
			l.left(l.at, "%s: left out; the value is that of the shell", why)
		}
	case "--env-file":
		l.envFiles = append(l.envFiles, setting{text: value, at: l.at})
	case "-p", "--publish":
		l.publish(value, l.at)
	case "--gpus":
		l.gpus(value)
	case "--device":
		l.addDevice(value, l.at)
	case "--shm-size":
		l.size("sandbox", "shm", value, l.at, why)
	case "-m", "--memory":
		l.size("limits", "memory_max", value, l.at, why)
	case "--cpuset-cpus":
		l.key("limits", "cpus", quoted(value), why)
	case "--pids-limit":
		l.number("limits", "tasks_max", value, l.at, why)
	case "-w", "--workdir":
		l.cwd = value
	default:
		return false
	}
	return true
}

// volume takes HOST:CONTAINER[:OPTIONS].
func (l *launch) volume(text string, at spot) {
	host, rest, found := strings.Cut(text, ":")
	inside, _, _ := strings.Cut(rest, ":")
	if !found || !strings.HasPrefix(host, "/") || !strings.HasPrefix(inside, "/") {
		l.left(at, "volume %s: it names no absolute directory of the host; a path in it has to be written by "+
			"hand", text)
		return
	}
	l.box.volumes = append(l.box.volumes, volume{path.Clean(host), path.Clean(inside)})
}

// mount takes type=bind,src=HOST,dst=CONTAINER.
func (l *launch) mount(text string) {
	parts := make(map[string]string)
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		parts[name] = value
	}
	first := func(names ...string) string {
		for _, n := range names {
			if parts[n] != "" {
				return parts[n]
			}
		}
		return ""
	}
	l.volume(first("source", "src")+":"+first("target", "destination", "dst"), l.at)
}

// publish takes [ADDRESS:]HOST:CONTAINER[/tcp].
func (l *launch) publish(text string, at spot) {
	ports, proto, _ := strings.Cut(text, "/")
	parts := strings.Split(ports, ":")
	if len(parts) < 2 || proto == "udp" {
		l.left(at, "port %s: left out", text)
		return
	}
	n := len(parts)
	l.box.ports[parts[n-1]] = parts[n-2]
	address := strings.Join(parts[:n-2], ":")
	if !strings.Contains(text, portMark) && address != "127.0.0.1" && address != "localhost" && address != "[::1]" {
		l.left(at, "port %s: an engine listens on 127.0.0.1 only; for other hosts put a proxy before it", text)
	}
}

// gpus takes docker's --gpus: all, a number, or device=0,1.
func (l *launch) gpus(text string) {
	text = strings.Trim(text, `"'`)
	list, named := strings.CutPrefix(text, "device=")
	switch {
	case named:
		l.devices = &setting{name: "--gpus", text: list, at: l.at}
	case text != "all":
		l.left(l.at, "--gpus %s: devices names the GPUs themselves; poolctl devices lists them", text)
	}
}

// addDevice takes a device of a container: one of the CDI, or a node.
func (l *launch) addDevice(text string, at spot) {
	node, _, _ := strings.Cut(text, ":")
	name, cdi := strings.CutPrefix(text, "nvidia.com/gpu=")
	index, numbered := strings.CutPrefix(node, "/dev/nvidia")
	switch {
	case cdi && name == "all":
		return
	case cdi:
	case numbered && index != "" && strings.Trim(index, "0123456789") == "":
		name = index
	case numbered:
		return // /dev/nvidiactl and the like belong to each GPU
	default:
		l.left(at, "device %s: left out; an engine sees GPUs of NVIDIA alone", text)
		return
	}
	if l.devices == nil {
		l.devices = &setting{name: "its devices", text: name, at: at}
	} else {
		l.devices.text += "," + name
	}
}

// hostPath returns the path on the host of one in the container.
func (l *launch) hostPath(p string) (string, bool) {
	if l.box == nil {
		return p, true
	}
	p = path.Clean(p)
	best, found := volume{}, false
	for _, v := range l.box.volumes {
		if (p == v.inside || strings.HasPrefix(p, strings.TrimSuffix(v.inside, "/")+"/")) &&
			len(v.inside) >= len(best.inside) {
			best, found = v, true
		}
	}
	if !found {
		return p, false
	}
	return path.Join(best.host, strings.TrimPrefix(p, best.inside)), true
}
