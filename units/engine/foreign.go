package engine

import (
	"path"
	"slices"
	"strings"
)

// Foreign is how command lines and images that others wrote start an engine: what "poolctl import"
// recognises it by, and which of its options are keys of a pool file.
type Foreign struct {
	Programs []string // names of its program; one may go on behind a dash
	// Modules are what "python -m" starts it by. The value is the program in the same directory
	// that is the pool's binary; "": the interpreter is.
	Modules    map[string]string
	Words      []string // before its options; Command writes them
	Positional bool     // an argument that is no option is the model
	Images     []string // parts of the names of container images that have it
	// Underscores: "--max_model_len" is "--max-model-len".
	Underscores bool
	Shortened   bool // "--max-model" is "--max-model-len", as for its flagSyntax
	// SharedCtx: MeansCtx counts the tokens of all slots together.
	SharedCtx bool
	// Quant is the quantisation that it loads of a repository that names none.
	Quant   string
	Options []ForeignOption
}

// ForeignOption is an option of an engine that means a key of a pool file.
type ForeignOption struct {
	Means     Meaning
	Spellings []string
	Variables []string // of the environment, with the same effect
}

// Meaning is what an option of an engine is in a pool file.
type Meaning int

// The meanings.
const (
	MeansModel    Meaning = iota + 1 // a path, or a repository of the hub
	MeansRepo                        // a repository of the hub, ":QUANT" behind it or not
	MeansRepoFile                    // a file in that repository
	MeansRevision                    // a revision of the repository
	MeansURL                         // the address of the model's file
	MeansHost                        // where it listens
	MeansPort
	MeansCtx
	MeansSlots
	MeansSplit   // shares of the devices
	MeansLayers  // layers on the devices; all of them is what Command asks for
	MeansCount   // the number of devices; Command writes it
	MeansDevices // names of devices, by their position
	MeansKey     // the key that callers must send
	MeansKeyFile // a file that holds it
	MeansToken   // a secret of another service
	MeansName    // the name that requests have for the model
	MeansDefault // a flag without a value that Command writes
)

// Recognise returns the engine that a command line starts, how, and the number of its words that
// come before the engine's arguments. A program that is unknown is one that serves anything.
func Recognise(argv []string) (a Adapter, binary string, skip int) {
	if len(argv) == 0 {
		return anything(), "", 0
	}
	base := path.Base(argv[0])
	for _, a := range adapters() {
		f := a.Foreign()
		if slices.ContainsFunc(f.Programs, func(p string) bool { return base == p || strings.HasPrefix(base, p+"-") }) {
			return a, argv[0], 1 + f.words(argv[1:])
		}
		if len(argv) < 3 || !isPython(argv[0]) || argv[1] != "-m" {
			continue
		}
		if beside, ok := f.Modules[argv[2]]; ok {
			binary := argv[0]
			if beside != "" {
				binary = path.Join(path.Dir(binary), beside)
			}
			return a, binary, 3
		}
	}
	return anything(), argv[0], 1
}

// words is how many of the words that Command writes begin the arguments.
func (f Foreign) words(args []string) int {
	if len(args) > 0 && slices.Contains(f.Words, args[0]) {
		return 1
	}
	return 0
}

func anything() Adapter {
	all := adapters()
	return all[slices.IndexFunc(all, func(a Adapter) bool { return a.Weights() == Anything })]
}

// OfImage returns the engine of a container image.
func OfImage(image string) (Adapter, bool) {
	image, _, _ = strings.Cut(image, "@")
	for _, a := range adapters() {
		if slices.ContainsFunc(a.Foreign().Images, func(part string) bool { return strings.Contains(image, part) }) {
			return a, true
		}
	}
	return nil, false
}

// Option returns what an argument means. inline is true if its value is a part of it.
func (f Foreign) Option(arg string) (means Meaning, value string, inline bool) {
	name, value, inline := strings.Cut(arg, "=")
	if !strings.HasPrefix(name, "-") {
		return 0, "", false
	}
	syntax := flagSyntax{Underscores: f.Underscores}
	name = syntax.name(name)
	for range 2 { // the whole name of one option may begin another
		for _, o := range f.Options {
			if syntax.means(name, o.Spellings...) != "" {
				return o.Means, value, inline
			}
		}
		syntax.Shortened = f.Shortened
	}
	return 0, "", false
}

// Variable returns what a variable of the environment means.
func (f Foreign) Variable(name string) Meaning {
	for _, o := range f.Options {
		if slices.Contains(o.Variables, name) {
			return o.Means
		}
	}
	return 0
}
