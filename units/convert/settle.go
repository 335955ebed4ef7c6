package convert

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// replaceMe is a directory that does not exist: the pool says MODEL_NOT_FOUND until the path is
// written.
const replaceMe = "/REPLACE-ME"

// visible are the variables that choose GPUs.
var visible = []string{"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}

// environment takes the variables. Those that are options of the engine are keys.
func (o *options) environment() {
	for _, v := range o.l.env {
		means := o.foreign.Variable(v.name)
		switch {
		case slices.Contains(visible, v.name):
			if o.l.devices == nil || v.name == visible[0] {
				o.l.devices = &setting{name: v.name, text: v.text, at: v.at}
			}
		case v.name == "CUDA_DEVICE_ORDER" || v.name == "NVIDIA_DRIVER_CAPABILITIES":
			// indices are NVML's, and each engine has what its GPU can do
		case means == engine.MeansDefault:
		case means != 0:
			o.take(means, v.name, v.text, v.at)
		case secretive(v.name, v.text):
			o.l.left(v.at, "not copied, being confidential: the value of %s. Write the variable into a file of "+
				"root with "+
				"mode 0600, and name that as env_file", v.name)
		default:
			o.d.set("env", v.name, quoted(o.path(v.text)), "")
		}
	}
}

// publishedPort gives the pool the port of the host that a container had.
func (o *options) publishedPort() {
	for inside, outside := range o.l.box.ports {
		switch {
		case len(o.l.box.ports) > 1:
			o.l.left(o.l.at, "ports of the container: there are %d; write the engine's one as port", len(o.l.box.ports))
			return
		case !strings.Contains(outside, portMark):
			o.setPort("port "+outside+":"+inside, outside, o.l.at)
		}
	}
}

func (o *options) envFile(f setting) {
	name, optional := strings.CutPrefix(f.text, "-")
	if !strings.HasPrefix(name, "/") && strings.HasPrefix(o.l.cwd, "/") && o.l.box == nil {
		name = path.Join(o.l.cwd, name)
	}
	if !strings.HasPrefix(name, "/") {
		o.l.left(f.at, "file of variables %s: write its absolute path as env_file", name)
		return
	}
	if optional {
		o.l.left(f.at, "EnvironmentFile=-%s: the pool waits while the file is missing; remove env_file if it may "+
			"be", name)
	}
	o.d.envFiles = append(o.d.envFiles, name)
}

var repository = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// settleModel writes the key model.
func (o *options) settleModel() {
	if o.any && o.model == "" {
		return
	}
	ref, why := o.reference()
	if ref != "" {
		r, err := modelref.Parse(ref)
		if err == nil && r.Own() {
			err = errors.New("has an unknown scheme")
		}
		if err != nil {
			o.l.left(o.l.at, "model %s: %v", ref, err)
			ref = ""
		} else if r.Remote() && why == "" {
			why = `It is downloaded where the host permits it: [policy] egress = "fetch" in config.toml.`
		}
	}
	if ref == "" {
		ref = "file:" + replaceMe + "/model"
	}
	o.d.set("", "model", quoted(ref), why)
}

// reference returns the model as a pool file names it, "" if that is unknown, and a comment.
func (o *options) reference() (ref, why string) {
	switch {
	case o.repo != "":
		return o.ofHub()
	case o.model == "" && o.url != "":
		return o.url, ""
	case o.model == "":
		o.l.left(o.l.at, "model: the command line names none; write it")
		return "", ""
	case strings.HasPrefix(o.model, "/"):
		p, found := o.l.hostPath(o.model)
		if !found {
			o.l.left(o.l.at, "model %s: no volume of the container has this path; write that of the host", o.model)
			return "file:" + replaceMe + path.Clean(p), ""
		}
		return "file:" + path.Clean(p), ""
	case repository.MatchString(o.model) && o.d.adapter.Weights() == engine.Safetensors:
		ref := "hf:" + o.model
		if o.revision != "" {
			ref += "@" + strings.ReplaceAll(o.revision, "/", "%2F")
		}
		return ref, ""
	case strings.ContainsAny(o.model, "$~"):
		o.l.left(o.l.at, "model %s: it depends on where it was started; write the absolute path", o.model)
		return "file:" + replaceMe + "/" + fileName(o.model), ""
	case strings.HasPrefix(o.l.cwd, "/") && o.l.box == nil:
		return "file:" + path.Join(o.l.cwd, o.model), ""
	}
	o.l.left(o.l.at, "model %s: the path is relative, and its directory is unknown; write the absolute path", o.model)
	return "file:" + replaceMe + "/" + fileName(o.model), ""
}

// ofHub returns the reference of a repository, with the file or the quantisation of it.
func (o *options) ofHub() (ref, why string) {
	repo, quant, _ := strings.Cut(o.repo, ":")
	ref = "hf:" + repo
	switch {
	case o.repoFile != "":
		return ref + "/" + o.repoFile, ""
	case quant != "":
		return ref + ":" + quant, ""
	case o.foreign.Quant != "":
		return ref + ":" + o.foreign.Quant, fmt.Sprintf("%s is what this engine takes where none is named. "+
			`It is downloaded where the host permits it: [policy] egress = "fetch" in config.toml.`, o.foreign.Quant)
	}
	return ref, ""
}

// fileName returns the last part of a path, in letters that a path of a unit may have.
func fileName(p string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '-'
	}, path.Base(p))
	if strings.Trim(name, ".-") == "" {
		return "model"
	}
	return name
}

// settleSizes writes ctx and slots. Where the engine's option counts the tokens of all slots, the
// key has those of one.
func (o *options) settleSizes() {
	if o.slots > 0 {
		o.d.set("", "slots", strconv.Itoa(o.slots), "")
	}
	if o.ctx == 0 {
		return
	}
	ctx, why := o.ctx, ""
	if o.foreign.SharedCtx && o.slots > 1 {
		ctx = max(o.ctx/o.slots, 1)
		why = fmt.Sprintf("Of one request: the engine's option had %d tokens for %d slots together.", o.ctx, o.slots)
	}
	o.d.set("", "ctx", strconv.Itoa(ctx), why)
}

const guess = "A guess: the source does not say which GPUs; poolctl devices lists them."

// settleDevices writes devices, and what depends on their number.
func (o *options) settleDevices() {
	list, why := o.deviceList()
	o.d.devices = list
	o.d.set("", "devices", deviceText(list), why)
	if len(o.split) > 0 && len(o.split) != len(list) {
		o.l.left(o.l.at, "tensor_split: %d shares for %d devices; left out", len(o.split), len(list))
	} else if len(o.split) > 0 {
		o.d.set("", "tensor_split", splitText(o.split), "")
	}
	switch {
	case o.count <= 1 || o.count == len(list):
	case !strings.HasPrefix(o.countFlag[0], "-"): // a variable
		o.d.set("env", o.countFlag[0], quoted(o.countFlag[1]), "")
	default:
		o.d.args = append(o.d.args, group{words: o.countFlag})
	}
}

func (o *options) deviceList() (list []string, why string) {
	if o.onCPU {
		return nil, "On the CPU: the host's config.toml needs require_gpu = false."
	}
	if s := o.l.devices; s != nil && s.text != "all" {
		if slices.Contains([]string{"", "-1", "none", "void", "NoDevFiles"}, s.text) {
			return nil, "On the CPU: the host's config.toml needs require_gpu = false."
		}
		ordered := slices.ContainsFunc(o.l.env, func(v setting) bool {
			return v.name == "CUDA_DEVICE_ORDER" && v.text == "PCI_BUS_ID"
		})
		for part := range strings.SplitSeq(s.text, ",") {
			list = append(list, strings.TrimSpace(part))
		}
		if len(list) > 0 && numeric(list[0]) && !ordered && s.name == visible[0] {
			why = "CUDA counts the fastest GPU first, a pool file by the PCI bus: compare with poolctl devices."
		}
		return list, why
	}
	for i := range max(o.count, len(o.split), 1) {
		list = append(list, strconv.Itoa(i))
	}
	return list, guess
}

func deviceText(list []string) string {
	parts := make([]string, len(list))
	for i, name := range list {
		if parts[i] = quoted(name); numeric(name) && len(name) < 5 && strings.Trim(name, "0123456789") == "" {
			parts[i] = strings.TrimLeft(name[:len(name)-1], "0") + name[len(name)-1:]
		}
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func splitText(split []float64) string {
	parts := make([]string, len(split))
	for i, share := range split {
		parts[i] = strconv.FormatFloat(max(share, 0.0001), 'f', 4, 64)
		parts[i] = strings.TrimRight(parts[i], "0")
		if strings.HasSuffix(parts[i], ".") {
			parts[i] += "0"
		}
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
