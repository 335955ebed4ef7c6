package convert

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/engine"
)

// options is what a launch says of its engine, by its arguments and its variables.
type options struct {
	l       *launch
	d       *draft
	foreign engine.Foreign
	any     bool // the program is not known

	model, repo, repoFile, revision, url string
	ctx, slots, count                    int
	countFlag                            []string
	split                                []float64
	onCPU                                bool
}

// draft makes a pool file's keys of a launch.
func (l *launch) draft() (*draft, error) {
	if err := l.unwrap(); err != nil {
		return nil, err
	}
	adapter, binary, skip := engine.Recognise(l.argv)
	anything := slices.Contains(engine.WithoutModel(), adapter.Kind())
	if l.box != nil {
		if of, ok := engine.OfImage(l.box.image); ok && (anything || len(l.argv) == 0) {
			adapter, skip, anything = of, 0, false
			if f := of.Foreign(); len(l.argv) > 0 && slices.Contains(f.Words, l.argv[0]) {
				skip = 1
			}
		}
		switch {
		case !anything && binary != l.box.entry: // python -m vllm…, which the engine's own program does
			l.box.entry = ""
		case anything && l.box.entry == "":
			skip = 0 // the program is in the image
		case anything:
			skip = 1
		}
	}
	if len(l.argv) == 0 && l.box == nil {
		return nil, fmt.Errorf("no command line")
	}
	d := &draft{from: l, adapter: adapter}
	o := &options{l: l, d: d, foreign: adapter.Foreign(), any: anything}
	d.set("", "engine", quoted(adapter.Kind()), "")
	o.binary(binary)
	o.check()
	o.read(l.argv[min(skip, len(l.argv)):])
	o.environment()
	o.settleModel()
	o.settleSizes()
	o.settleDevices()
	if l.box != nil {
		o.publishedPort()
	}
	for _, f := range l.envFiles {
		o.envFile(f)
	}
	for _, e := range l.keys {
		d.set(e.table, e.name, e.value, e.why)
	}
	d.notes = append(d.notes, l.notes...)
	return d, nil
}

// check settles the path by which readiness is found out. An engine that is known has a better one:
// others answer before the model is loaded.
func (o *options) check() {
	switch c := o.l.check; {
	case o.any && c == nil:
		o.l.left(o.l.at, "the program is none of the engines that are known: its arguments are as they were, and "+
			"it counts as ready when "+
			"it answers at %s; write another path as [health] path", o.d.adapter.HealthPath())
	case c == nil || c.text == o.d.adapter.HealthPath():
	case o.any:
		o.d.set("health", "path", quoted(c.text), "")
	default:
		o.l.left(c.at, "%s %s: this engine is ready when %s answers", c.name, c.text, o.d.adapter.HealthPath())
	}
}

// binary settles the engine's program.
func (o *options) binary(program string) {
	if o.l.box != nil {
		o.image()
		return
	}
	switch {
	case program == o.d.adapter.DefaultBinary():
	case strings.HasPrefix(program, "/") || !strings.Contains(program, "/"):
		o.d.set("provisioning", "binary", quoted(program), "")
	case strings.HasPrefix(o.l.cwd, "/"):
		o.d.set("provisioning", "binary", quoted(path.Join(o.l.cwd, program)), "")
	default:
		o.d.set("provisioning", "binary", quoted(replaceMe+"/"+path.Base(program)), "")
		o.l.left(o.l.at, "program %s: the path is relative, and its directory is unknown; write the absolute "+
			"path", program)
	}
}

// read takes the arguments. What is no key of a pool file stays an argument.
func (o *options) read(args []string) {
	free := true // the next word is no value of an option before it
	for i := 0; i < len(args); i++ {
		arg := args[i]
		means, value, inline := o.foreign.Option(arg)
		switch {
		case means == engine.MeansDefault:
			free = true
		case means == engine.MeansName:
			free = false
			end := i + 1
			last := end+1 >= len(args) || isOption(args[end+1])
			if end < len(args) && args[end] == idOf(o.l.name) && last {
				i = end // Command writes it
				continue
			}
			o.d.args = append(o.d.args, group{words: []string{arg}})
		case means != 0:
			if !inline && i+1 < len(args) {
				i++
				value = args[i]
			}
			o.take(means, strings.TrimSuffix(arg, "="+value), value, o.l.at)
			free = true
		case isOption(arg):
			o.d.args = append(o.d.args, group{words: []string{o.path(arg)}})
			free = false
		case free && o.foreign.Positional && o.model == "":
			o.model = arg
		case len(o.d.args) > 0 && !free:
			last := &o.d.args[len(o.d.args)-1]
			last.words = append(last.words, o.path(arg))
		default:
			o.d.args = append(o.d.args, group{words: []string{o.path(arg)}})
		}
	}
	o.d.args = slices.DeleteFunc(o.d.args, func(g group) bool {
		name, value, _ := strings.Cut(g.words[0], "=")
		if !secretive(name, strings.Join(append([]string{value}, g.words[1:]...), " ")) {
			return false
		}
		o.l.left(o.l.at, "not copied, being confidential, and arguments are readable for every user: the value of %s. "+
			"If the engine takes it as a variable, write that into a file and name it as env_file", name)
		return true
	})
}

// isOption reports whether a word is an option, and no negative number.
func isOption(word string) bool { return strings.HasPrefix(word, "-") && !numeric(word) }

// numeric reports whether a word is a number.
func numeric(word string) bool {
	_, err := strconv.ParseFloat(word, 64)
	return err == nil
}

// path replaces a container's path in an argument, and the port of an unknown program.
func (o *options) path(arg string) string {
	if o.any {
		arg = strings.ReplaceAll(arg, portMark, "{port}")
	}
	before, p, inline := strings.Cut(arg, "=")
	if !inline {
		before, p = "", arg
	} else {
		before += "="
	}
	if strings.HasPrefix(p, "/") && o.l.box != nil {
		if host, ok := o.l.hostPath(p); ok {
			return before + host
		}
		o.l.left(o.l.at, "%s: no volume of the container has this path; write that of the host", p)
	}
	return arg
}

// take settles what an option, or a variable, means.
func (o *options) take(means engine.Meaning, name, value string, at spot) {
	number := func(into *int) {
		n, ok := tokensOf(value)
		if !ok {
			o.l.left(at, "%s %s: no number; set the key by hand, or leave it to the engine", name, value)
			return
		}
		*into = n
	}
	switch means {
	case engine.MeansModel:
		o.model = value
	case engine.MeansRepo:
		o.repo = value
	case engine.MeansRepoFile:
		o.repoFile = value
	case engine.MeansRevision:
		o.revision = value
	case engine.MeansURL:
		o.url = value
	case engine.MeansHost:
		o.host(name, value, at)
	case engine.MeansPort:
		o.port(name, value, at)
	case engine.MeansCtx:
		number(&o.ctx)
	case engine.MeansSlots:
		number(&o.slots)
	case engine.MeansCount:
		number(&o.count)
		o.countFlag = []string{name, value}
	default:
		o.takeOther(means, name, value, at)
	}
}

func (o *options) takeOther(means engine.Meaning, name, value string, at spot) {
	switch means {
	case engine.MeansLayers:
		n, err := strconv.Atoi(value)
		switch {
		case err == nil && n == 0:
			o.onCPU = true
		case err == nil && n > 0 && n < manyLayers:
			o.d.args = append(o.d.args, group{words: []string{flagOf(name, "-ngl"), value}})
		}
	case engine.MeansSplit:
		o.shares(name, value, at)
	case engine.MeansDevices:
		o.positions(name, value, at)
	case engine.MeansKey:
		o.l.left(at, "not copied: the value of %s. Write it into a file of root with mode 0600, and name that as "+
			"api_key_file", name)
	case engine.MeansToken:
		o.l.left(at, "not copied: the value of %s. The host has one for all downloads: hf_token_file in "+
			"config.toml", name)
	case engine.MeansKeyFile:
		o.d.set("", "api_key_file", quoted(o.path(value)), "It must belong to root, with mode 0600.")
	}
}

// manyLayers is more than models have: all of them are meant.
const manyLayers = 99

// flagOf returns a flag as written, or the usual one for a variable.
func flagOf(name, usual string) string {
	if strings.HasPrefix(name, "-") {
		return name
	}
	return usual
}

func (o *options) host(name, value string, at spot) {
	if o.any {
		o.d.args = append(o.d.args, group{words: []string{name, "{host}"}})
	}
	if !slices.Contains([]string{"127.0.0.1", "localhost", "::1", ""}, value) && o.l.box == nil {
		o.l.left(at, "%s %s: an engine listens on 127.0.0.1 only; for other hosts put a proxy before it", name, value)
	}
}

func (o *options) port(name, value string, at spot) {
	if o.any {
		o.d.args = append(o.d.args, group{words: []string{name, "{port}"}})
	}
	if o.l.box != nil || strings.Contains(value, portMark) {
		return // of the container alone; or chosen
	}
	o.setPort(name+" "+value, value, at)
}

const lowestPort = 1024

func (o *options) setPort(why, value string, at spot) {
	n, err := strconv.Atoi(value)
	if err != nil || n < lowestPort || n > 65535 {
		o.l.left(at, "%s: a pool's port is 1024 to 65535; it gets one of port_range", why)
		return
	}
	o.d.set("", "port", strconv.Itoa(n), "")
}

// shares takes the parts of the devices, which a pool file has as shares of 1.
func (o *options) shares(name, value string, at spot) {
	var split []float64
	sum := 0.0
	for part := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ',' || r == '/' }) {
		x, err := strconv.ParseFloat(part, 64)
		if err != nil || !(x > 0 && x < 1e6) {
			o.l.left(at, "%s %s: tensor_split needs a share above 0 for each device", name, value)
			return
		}
		split, sum = append(split, x), sum+x
	}
	if len(split) < 2 {
		return
	}
	for i := range split {
		split[i] /= sum
	}
	o.split = split
}

// positions takes devices by their names in the engine: CUDA0,CUDA1.
func (o *options) positions(name, value string, at spot) {
	if value == "none" {
		o.onCPU = true
		return
	}
	var list []string
	for part := range strings.SplitSeq(value, ",") {
		digits := strings.TrimLeft(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
		if _, err := strconv.Atoi(digits); err != nil {
			o.l.left(at, "%s %s: write the GPUs as devices; poolctl devices lists them", name, value)
			return
		}
		list = append(list, digits)
	}
	if o.l.devices != nil {
		o.l.left(at, "%s %s: these are positions in what the engine is shown; devices has the GPUs themselves",
			name, value)
		return
	}
	o.l.devices = &setting{name: name, text: strings.Join(list, ","), at: at}
}
