package mutate

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestWithoutMany: where nothing is asked for, the function is the target's own.
func TestWithoutMany(t *testing.T) {
	t.Setenv(Inputs, "")
	calls := 0
	Many(func(*testing.T, string) { calls++ })(t, "x")
	if calls != 1 {
		t.Errorf("%d calls, want 1", calls)
	}
}

// TestMany: a part of the inputs is tried after each one of the corpus, and all of them once.
func TestMany(t *testing.T) {
	t.Setenv(Inputs, "80")
	calls, different := 0, map[string]bool{}
	many := Many(func(_ *testing.T, b []byte, s string, _ int, _ uint8, _ float64, _ bool) {
		calls++
		different[string(b)+s] = true
	})
	for range 20 {
		many(t, []byte("a sentence"), "other words", 1, 2, 3, true)
	}
	if calls != 100 || len(different) < 40 {
		t.Errorf("%d calls with %d texts, want 80 and the corpus", calls, len(different))
	}
}

// TestEndsInTime: no input is tried after the end.
func TestEndsInTime(t *testing.T) {
	t.Setenv(Inputs, "80")
	t.Setenv(Until, "1")
	calls := 0
	Many(func(*testing.T, string) { calls++ })(t, "x")
	if calls != 1 {
		t.Errorf("%d calls, want 1", calls)
	}
}

// TestFilesOfTheCorpus: what is written is what go test reads, and texts of it are found again.
func TestFilesOfTheCorpus(t *testing.T) {
	t.Chdir(t.TempDir())
	args := []any{[]byte("a\x00\xff\n"), "b\"`é", uint8(7), -3, 0.5, true}
	values := make([]reflect.Value, 0, len(args))
	for _, a := range args {
		values = append(values, reflect.ValueOf(a))
	}
	file, err := write("FuzzX", values)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	want := "go test fuzz v1\n[]byte(\"a\\x00\\xff\\n\")\nstring(\"b\\\"`é\")\nuint8(7)\nint(-3)\n" +
		"math.Float64frombits(0x3fe0000000000000)\nbool(true)\n"
	if err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
	s := load(filepath.Dir(file))
	if len(s.at) != 2 || s.at[0][0] != "a\x00\xff\n" || s.at[1][0] != "b\"`é" {
		t.Errorf("%v", s.at)
	}
}

// TestText: changes are of what is known, of each length, and bounded.
func TestText(t *testing.T) {
	s := &sources{at: map[int][]string{0: {strings.Repeat("x", maxText), ""}}}
	shorter := false
	for range 1000 {
		text := s.text(0)
		if len(text) > maxText {
			t.Fatalf("%d bytes", len(text))
		}
		shorter = shorter || len(text) > 8 && len(text) < maxText/2
	}
	if !shorter {
		t.Error("no part of it was tried")
	}
	s.text(1) // of a place without texts
}

// TestKeepsWhatFails: an input that fails or panics is kept, and named.
func TestKeepsWhatFails(t *testing.T) {
	for _, how := range []string{"fails", "panics", "ends"} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run", "^TestThatFails$", "-test.v")
			cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), Inputs+"=100000", "MUTATE_TEST="+how)
			out, err := cmd.CombinedOutput()
			files, _ := filepath.Glob(filepath.Join(cmd.Dir, "testdata", "fuzz", "TestThatFails", "*"))
			if err == nil || len(files) != 1 {
				t.Fatalf("%v, %v\n%s", err, files, out)
			}
			if name := filepath.Base(files[0]); !strings.Contains(string(out), "-run TestThatFails/"+name) {
				t.Errorf("%s is not named:\n%s", name, out)
			}
			text, err := os.ReadFile(files[0])
			if kept := texts(string(text))[0]; err != nil || len(kept) != 3 {
				t.Errorf("%q, %v is not what failed", kept, err)
			}
		})
	}
}

// TestThatFails is run by TestKeepsWhatFails.
func TestThatFails(t *testing.T) {
	how := os.Getenv("MUTATE_TEST")
	if how == "" {
		t.Skip("only for TestKeepsWhatFails")
	}
	Many(func(t *testing.T, s string) {
		switch {
		case len(s) != 3:
		case how == "fails":
			t.Error("three bytes")
		case how == "ends":
			t.FailNow()
		default:
			panic("three bytes")
		}
	})(t, "a sentence")
}
