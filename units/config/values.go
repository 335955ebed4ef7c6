package config

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/cgroups"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func idType() strict.Type[draft] {
	return strict.Type[draft]{Name: "string", Allowed: pool.IDRule, Set: func(d *draft, v *strict.Value, at strict.At) {
		d.named = true
		s, ok := strict.Text(v, at, pool.IDRule, func(s string) string {
			switch {
			case pool.ValidID(s):
				return ""
			case len(s) > 63:
				return fmt.Sprintf("has %d bytes", len(s))
			}
			return "is not a valid id"
		})
		if ok {
			d.ID = s
		}
	}}
}

// schemes are the kinds of model references that the contract knows.
var schemes = [...]string{"file", "hf", "https", "s3", "oci"}

func known(scheme string) bool { return slices.Contains(schemes[:], scheme) }

func modelType() strict.Type[draft] {
	return strict.Type[draft]{Name: "string", Allowed: modelAllowed,
		Set: func(d *draft, v *strict.Value, at strict.At) {
			if v.Kind != strict.String {
				at.Wrong(v, modelAllowed, "Write it in quotes.")
				return
			}
			model, wrong := d.host.modelOf(v.Str, v.Describe())
			if wrong != nil {
				at.Say(v, wrong.what, modelAllowed, wrong.hint)
				return
			}
			d.Model = model
		}}
}

// filePath takes the empty host out of a URL: "file:///srv/a" names the same file as "file:/srv/a".
func filePath(rest string) string {
	if after, found := strings.CutPrefix(rest, "//"); found {
		return after
	}
	return rest
}

func digest(s string) string {
	hexed, found := strings.CutPrefix(s, "sha256:")
	if !found {
		return "does not begin with sha256:"
	}
	if len(hexed) != 64 {
		return fmt.Sprintf("has %d digits", len(hexed))
	}
	if _, err := hex.DecodeString(hexed); err != nil || strings.ToLower(hexed) != hexed {
		return "has a character other than 0-9 and a-f"
	}
	return ""
}

func splitType() strict.Type[draft] {
	const allowed = "shares above 0 that sum to 1"
	return strict.Type[draft]{Name: "list of numbers", Allowed: allowed,
		Set: func(d *draft, v *strict.Value, at strict.At) {
			if v.Kind != strict.Array || len(v.Items) == 0 {
				at.Wrong(v, "a list: "+allowed, "One number for each device, as [0.6, 0.4].")
				return
			}
			split, sum, good := make([]float64, len(v.Items)), 0.0, true
			for i, item := range v.Items {
				x, ok := strict.Number(item)
				if !ok || !(x > 0 && x <= 1) {
					at.Item(i).Wrong(item, "a number above 0, at most 1", "")
					good = false
				}
				split[i], sum = x, sum+x
			}
			if good && math.Abs(sum-1) > 0.01 {
				at.Say(v, "sums to "+strconv.FormatFloat(sum, 'g', 4, 64), "shares that sum to 1", "")
				good = false
			}
			if good {
				d.TensorSplit = split
			}
		}}
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// envType reads one variable. Values may be secrets, so that no message repeats one. The map is the
// draft's own, not that of the defaults.
func envType() strict.Type[pool.Pool] {
	const allowed = "a string on one line"
	return strict.Type[pool.Pool]{Name: "string", Allowed: allowed,
		Set: func(p *pool.Pool, v *strict.Value, at strict.At) {
			name := at.Last()
			switch {
			case !envName.MatchString(name):
				at.SayKey("is not the name of a variable", "letters, digits and underscores, no digit first", "")
			case v.Kind != strict.String:
				at.Say(v, "is not a string", allowed, "Write the value in quotes.")
			case strings.ContainsAny(v.Str, "\x00\n\r"):
				at.Say(v, "has a line break or a NUL character", allowed, "")
			default:
				if p.Env == nil {
					p.Env = make(map[string]string)
				}
				p.Env[name] = v.Str
			}
		}}
}

func modeType() strict.Type[pool.Provisioning] {
	words := []string{pool.ModeBinary, pool.ModeContainer, pool.ModeExternal}
	return strict.ToWord(words, func(p *pool.Provisioning) *string { return &p.Mode })
}

// keyFile is the check of a path that PID 1 reads.
func keyFile(s string) string {
	if wrong := strict.Absolute(s); wrong != "" {
		return wrong
	}
	return confine.Path(s)
}

// envFileType reads one path, or a list of them. PID 1 takes a path as a pattern of the shell.
func envFileType() strict.Type[pool.Pool] {
	const allowed = "an absolute path, or a list of them"
	check := func(s string) string {
		if wrong := keyFile(s); wrong != "" {
			return wrong
		}
		if strings.ContainsAny(s, "*?[]%") {
			return "holds *, ?, [, ] or %, which PID 1 replaces"
		}
		return ""
	}
	list := strict.ToList("absolute paths", check, func(p *pool.Pool) *[]string { return &p.EnvFiles })
	return strict.Type[pool.Pool]{Name: "path or list of paths", Allowed: allowed,
		Set: func(p *pool.Pool, v *strict.Value, at strict.At) {
			switch v.Kind {
			case strict.String:
				if path, ok := strict.Text(v, at, allowed, check); ok {
					p.EnvFiles = []string{path}
				}
			case strict.Array:
				list.Set(p, v, at)
			default:
				at.Wrong(v, allowed, "Write it in quotes.")
			}
		}}
}

func binary(s string) string {
	switch wrong := strict.OneLine(s); {
	case s == "":
		return "is empty"
	case wrong != "":
		return wrong
	case strings.Contains(s, "/") && !strings.HasPrefix(s, "/"):
		return "is a relative path"
	case s == "." || s == ".." || strings.HasSuffix(s, "/"):
		return "is a directory"
	}
	return ""
}

func httpPath(s string) string {
	if !strings.HasPrefix(s, "/") {
		return "does not begin with /"
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
		return "has a blank, # or control character"
	}
	return ""
}

// maxPattern bounds a pattern and a name, in bytes: both are in the gate's command line.
const maxPattern = 256

// bodyPattern refuses an invalid regular expression, and one that everything matches.
func bodyPattern(s string) string {
	if wrong := strict.OneLine(s); wrong != "" {
		return wrong
	}
	if len(s) > maxPattern {
		return fmt.Sprintf("is longer than %d bytes", maxPattern)
	}
	pattern, err := regexp.Compile(s)
	if err != nil {
		return "is not a regular expression (" + strings.TrimPrefix(err.Error(), "error parsing regexp: ") + ")"
	}
	if pattern.MatchString("") {
		return "matches an empty body, which proves nothing"
	}
	return ""
}

var serviceForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./-]*$`)

func grpcService(s string) string {
	if !serviceForm.MatchString(s) || len(s) > maxPattern {
		return "is not the name of a gRPC service"
	}
	return ""
}

func jsonBody(s string) string {
	switch {
	case len(s) > 4096:
		return "is longer than 4096 bytes"
	case !json.Valid([]byte(s)):
		return "is not JSON"
	}
	return ""
}

func cpuList(s string) string {
	mask, err := cgroups.Mask(s)
	if err == nil && len(mask) == 0 {
		return "is empty"
	}
	if err != nil {
		return "is not a list of CPUs"
	}
	return ""
}

// maxPercent is a quota of every CPU that a list of CPUs may name.
const maxPercent = 100 * (cgroups.MaxCPU + 1)

var percentForm = regexp.MustCompile(`^([0-9]{1,9})%$`)

func percentType(field func(*pool.Limits) *int) strict.Type[pool.Limits] {
	allowed := fmt.Sprintf(`"1%%" to "%d%%"`, maxPercent)
	return strict.Type[pool.Limits]{Name: "percentage", Allowed: allowed,
		Set: func(l *pool.Limits, v *strict.Value, at strict.At) {
			n := int64(-1)
			switch {
			case v.Kind == strict.Integer:
				n = v.Int
			case v.Kind == strict.String:
				if m := percentForm.FindStringSubmatch(v.Str); m != nil {
					n, _ = strconv.ParseInt(m[1], 10, 64) // nine digits fit
				}
			default:
				at.Wrong(v, "a percentage, "+allowed, "")
				return
			}
			if n < 1 || n > maxPercent {
				at.Bad(v, allowed, `Whole percent of one CPU: "150%" is one and a half.`)
				return
			}
			*field(l) = int(n)
		}}
}
