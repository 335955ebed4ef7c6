package machine

import (
	"strings"
	"testing"
)

func TestRecipeKey(t *testing.T) {
	base := Recipe{Release: Trixie, Packages: []string{"polkitd", "jq"}}
	for name, c := range map[string]struct {
		other Recipe
		equal bool
	}{
		"order_of_packages_does_not_matter": {Recipe{Release: Trixie, Packages: []string{"jq", "polkitd"}}, true},
		"package_named_twice_is_one":        {Recipe{Release: Trixie, Packages: []string{"jq", "polkitd", "jq"}}, true},
		"other_release":                     {Recipe{Release: Bookworm, Packages: base.Packages}, false},
		"fewer_packages":                    {Recipe{Release: Trixie, Packages: []string{"jq"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := base.key() == c.other.key(); got != c.equal {
				t.Errorf("keys %s and %s", base.key(), c.other.key())
			}
		})
	}
	if contentKey("a", "bc") == contentKey("ab", "c") {
		t.Error("two lists of parts that read alike when joined have one key")
	}
}

func TestParseRelease(t *testing.T) {
	for _, r := range Releases() {
		if got, err := ParseRelease(string(r)); err != nil || got != r {
			t.Error(got, err)
		}
	}
	if _, err := ParseRelease("sid"); err == nil || !strings.Contains(err.Error(), `"sid"`) ||
		!strings.Contains(err.Error(), "forky") {
		t.Errorf("want an error that names what was given and what is known: %v", err)
	}
}

func TestConfigFilled(t *testing.T) {
	t.Run("zero_value_is_a_trixie_container", func(t *testing.T) {
		if c, err := (Config{}).filled(); err != nil || c.Release != Trixie || c.Backend != Container {
			t.Error(c, err)
		}
	})
	for name, c := range map[string]struct {
		config Config
		want   string
	}{
		"unknown_release":    {Config{Release: "potato"}, "potato"},
		"unknown_backend":    {Config{Backend: "jail"}, "jail"},
		"relative_file_name": {Config{Files: []File{{Guest: "etc/x"}}}, "etc/x"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := c.config.filled(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want an error that names %s: %v", c.want, err)
			}
		})
	}
}
