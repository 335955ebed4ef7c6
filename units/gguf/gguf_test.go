package gguf

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
)

// file builds headers: numbers as the format has them, strings with their length, anything else as
// it is.
func file(parts ...any) string {
	b := []byte(Magic)
	for _, part := range parts {
		switch v := part.(type) {
		case int:
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, v)
		case string:
			b = append(binary.LittleEndian.AppendUint64(b, uint64(len(v))), v...)
		case []byte:
			b = append(b, v...)
		}
	}
	return string(b)
}

func TestCheck(t *testing.T) {
	const none, one, two = uint64(0), uint64(1), uint64(2)
	// The header of one tensor is 24 bytes and the tensor's entry: name 8+1, dims 4+8·n, type 4,
	// offset 8.
	cases := []struct {
		name   string
		header string
		size   uint64 // of the file
		beyond bool
		need   uint64
	}{
		{"no_tensor", file(3, none, none), 24, false, 24},
		{"two_dimensions_of_f32", file(3, one, none, "a", 2, uint64(4), uint64(3), 0, none), 96 + 48, false, 96 + 48},
		{"one_byte_short", file(3, one, none, "a", 2, uint64(4), uint64(3), 0, none), 96 + 47, true, 96 + 48},
		{"q4_k_counts_in_blocks", file(3, one, none, "a", 1, uint64(512), 12, none), 64 + 287, true, 64 + 288},
		{"the_last_tensor_counts", file(3, two, none, "a", 1, one, 0, uint64(1024), "b", 1, one, 0, none), 5000, false, 96 + 1024 + 4},
		{"unknown_type_counts_from_its_start", file(3, one, none, "a", 1, uint64(1<<40), 141, uint64(64)), 64 + 64, false, 64 + 64},
		{"alignment_of_its_own", file(3, one, one, "general.alignment", 4, 4096, "a", 1, one, 0, none), 4100, false, 4100},
		{"every_kind_of_value", file(2, none, uint64(6), "a", 0, []byte{1}, "b", 12, none, "c", 8, "text", "d", 9, 4, two, 1, 2,
			"e", 9, 8, two, "x", "y", "f", 9, 9, one, 8, one, "deep"), 400, false, 209},
		{"in_the_middle_of_a_string", file(3, none, one, "general.name", 8, uint64(4000)), 100, true, 0},
		{"array_beyond_the_end", file(3, none, one, "tokens", 9, 4, uint64(1<<40)), 1 << 20, true, 0},
		{"more_pairs_than_bytes", file(3, none, uint64(1<<60), "a", 0, []byte{1}), 37, true, 0},

		{"unknown_version", file(4, one, one), 24, false, 0},
		{"big_endian", file(3<<24, one, one), 24, false, 0},
		{"unknown_value", file(3, none, one, "a", 77), 1000, false, 0},
		{"length_that_overflows", file(3, one, none, "a", 2, uint64(math.MaxUint64), two, 0, none), 1000, false, 0},
		{"array_that_overflows", file(3, none, one, "a", 9, 10, uint64(math.MaxUint64)), 1000, false, 0},
		{"nested_without_end", file(3, none, one, "a", 9, 9, one, 9, one, 9, one, 9, one, 9, one, 9, one, 0, none), 1000, false, 0},
		{"alignment_of_nothing", file(3, none, one, "general.alignment", 4, 0), 1000, false, 0},
		{"header_longer_than_is_read", file(3, none, one, "a", 9, 0, uint64(MaxHeader)), 1 << 40, false, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			need, err := Check(t.Context(), strings.NewReader(c.header), c.size)
			if errors.Is(err, ErrShort) != c.beyond || need != c.need {
				t.Errorf("Check = %d, %v; want %d, beyond the end: %t", need, err, c.need, c.beyond)
			}
		})
	}
}

// TestWholeModelIsLongEnough: of a good file every beginning is too short, and the whole is not.
func TestWholeModelIsLongEnough(t *testing.T) {
	whole := tiny(t)
	need, err := Check(t.Context(), strings.NewReader(whole), uint64(len(whole)))
	if err != nil || need > uint64(len(whole)) || need+32 < uint64(len(whole)) {
		t.Fatalf("of %d bytes %d are needed, %v", len(whole), need, err)
	}
	for size := len(Magic); size < int(need); size += 997 {
		if _, err := Check(t.Context(), strings.NewReader(whole[:size]), uint64(size)); !errors.Is(err, ErrShort) {
			t.Errorf("the first %d bytes: %v", size, err)
		}
	}
}

// FuzzCheck: whatever the bytes are, the reader ends, and a file is only called too short for a
// reason: it is shorter than what is needed, or than its header.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(file(3, uint64(1), uint64(1), "general.alignment", 4, 64, "a", 1, uint64(9), 0, uint64(0))),
		uint64(300))
	f.Add([]byte(file(3, uint64(0), uint64(1), "a", 9, 8, uint64(2), "x", "y")), uint64(100))
	f.Fuzz(mutate.Many(func(t *testing.T, content []byte, size uint64) {
		need, err := Check(t.Context(), strings.NewReader(string(content)), size)
		if err == nil && need > size {
			t.Errorf("needed %d of %d, and no error", need, size)
		}
		if err != nil && need != 0 && need <= size {
			t.Errorf("%v, although %d of %d are enough", err, need, size)
		}
	}))
}

// tiny is a whole model.
func tiny(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	if err := tinymodel.Encode(&b, tinymodel.Options{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
