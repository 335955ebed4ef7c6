package mutate

import (
	"crypto/sha256"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

// version is the first line of a file of the corpus (internal/fuzz of Go's library).
const version = "go test fuzz v1\n"

// write keeps an input in testdata/fuzz of the package that is tested, and returns its path.
func write(target string, args []reflect.Value) (string, error) {
	var text strings.Builder
	text.WriteString(version)
	for _, a := range args {
		fmt.Fprintln(&text, literal(a))
	}
	dir := filepath.Join("testdata", "fuzz", target)
	file := filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256([]byte(text.String())))[:16])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return file, os.WriteFile(file, []byte(text.String()), 0o644)
}

// literal is a value as a file of the corpus has it.
func literal(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Slice:
		return "[]byte(" + strconv.Quote(string(v.Bytes())) + ")"
	case reflect.String:
		return "string(" + strconv.Quote(v.String()) + ")"
	case reflect.Float64:
		return fmt.Sprintf("math.Float64frombits(0x%x)", math.Float64bits(v.Float()))
	case reflect.Float32:
		return fmt.Sprintf("math.Float32frombits(0x%x)", math.Float32bits(float32(v.Float())))
	default:
		return fmt.Sprintf("%s(%v)", v.Type(), v)
	}
}

// texts are the byte slices and strings of a file of the corpus by the argument's place. Numbers
// are left out: any are as good.
func texts(file string) map[int]string {
	lines := strings.Split(strings.TrimPrefix(file, version), "\n")
	found := map[int]string{}
	for i, line := range lines {
		quoted, is := strings.CutPrefix(line, "[]byte(")
		if !is {
			quoted, is = strings.CutPrefix(line, "string(")
		}
		if !is || !strings.HasSuffix(quoted, ")") {
			continue
		}
		if text, err := strconv.Unquote(strings.TrimSuffix(quoted, ")")); err == nil {
			found[i] = text
		}
	}
	return found
}

// load reads a directory of the corpus; what cannot be read is left out.
func load(dir string) *sources {
	s := &sources{at: map[int][]string{}}
	files, _ := filepath.Glob(filepath.Join(dir, "*")) // the pattern is a good one
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil || len(raw) > 4*maxText {
			continue
		}
		for i, text := range texts(string(raw)) {
			s.put(i, text)
		}
	}
	return s
}
