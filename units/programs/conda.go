package programs

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// condas are the programs whose "activate" chooses an environment.
var condas = []string{"conda", "mamba", "micromamba"}

// condaPrefix finds the installation that a script names: by its program, as in
// eval "$(/opt/conda/bin/conda shell.bash hook)", or by the file that defines the command.
var condaPrefix = regexp.MustCompile(
	`(/[\w./+-]+)/(?:(?:conda)?bin/(?:conda|mamba|micromamba)\b|etc/profile\.d/(?:conda|mamba)\.sh\b)`)

// activate follows "conda activate NAME" and "source PREFIX/bin/activate NAME": the programs of the
// environment come first, and conda itself is executed on the way. prefix is the installation's
// folder; empty: the one that the script names.
func (s *shellScript) activate(prefix string, c []word) {
	s.doubtful = true
	if prefix == "" {
		m := condaPrefix.FindStringSubmatch(s.text)
		if m == nil {
			return
		}
		prefix = path.Clean(m[1])
	}
	environment := prefix
	for _, w := range c {
		switch {
		case !w.known || strings.HasPrefix(w.text, "-"):
			continue
		case path.IsAbs(w.text):
			environment = path.Clean(w.text)
		case w.text != "base":
			environment = path.Join(prefix, "envs", w.text)
		}
	}
	s.guesses++
	defer func() { s.guesses-- }()
	s.program(path.Join(prefix, "bin/conda"), s.depth+1)
	folder := path.Join(environment, "bin")
	for _, found := range []string{path.Join(folder, "python3"), path.Join(folder, "python")} {
		if s.exists(found) {
			s.show(&s.needs.Programs, found)
		}
	}
	if extended := folder + ":" + s.env["PATH"]; len(extended) <= maxValue {
		s.env["PATH"] = extended
	}
}

// isActivation reports whether a command is "conda activate …".
func isActivation(c []word) bool {
	return len(c) > 1 && slices.Contains(condas, path.Base(c[0].text)) && c[1].text == "activate"
}
