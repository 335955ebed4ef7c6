package cgroups

import (
	"bytes"
	"errors"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestMask(t *testing.T) {
	cases := []struct {
		list string
		want []byte
		back string // the list of the mask, "" where it is the same
	}{
		{"", nil, ""},
		{" ", nil, " "},
		{"0", []byte{1}, ""},
		{"7", []byte{0x80}, ""},
		{"8", []byte{0, 1}, ""},
		{"0-3,8", []byte{0x0f, 1}, ""},
		{"0-15", []byte{0xff, 0xff}, ""},
		{"3,1,2", []byte{0x0e}, "1-3"},
		{"1, 3", []byte{0x0a}, "1,3"},
		{"5-5", []byte{0x20}, "5"},
		{"0-4,2-6", []byte{0x7f}, "0-6"},
	}
	for _, c := range cases {
		got, err := Mask(c.list)
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("Mask(%q) = %x, %v; want %x", c.list, got, err, c.want)
		}
		back := c.list
		if c.back != "" {
			back = c.back
		}
		if len(c.want) == 0 {
			back = ""
		}
		if list := List(got); list != back {
			t.Errorf("List(Mask(%q)) = %q, want %q", c.list, list, back)
		}
	}
	if mask, err := Mask("8191"); err != nil || len(mask) != 1024 {
		t.Errorf("the last CPU: %d bytes, %v", len(mask), err)
	}
}

func TestMaskErrors(t *testing.T) {
	for list, part := range map[string]string{
		"a": "a", "0-": "0-", "-1": "-1", "1,,2": "", "3-1": "3-1", "8192": "8192", "0-8192": "0-8192", "1.5": "1.5",
		"99999999999999999999": "99999999999999999999", "0-3:2": "0-3:2", "+1": "+1", "0-1-2": "0-1-2",
	} {
		mask, err := Mask(list)
		var wrong *ListError
		if !errors.As(err, &wrong) || wrong.Part != part || mask != nil {
			t.Errorf("Mask(%q) = %x, %v; want a ListError for %q", list, mask, err, part)
		}
	}
}

// FuzzMask: an error means no mask, and a mask's list is the same mask again.
func FuzzMask(f *testing.F) {
	for _, list := range []string{"", "0-3,8", "8191", "3-1", "0,0,0", " 1 , 2-4 "} {
		f.Add(list)
	}
	f.Fuzz(mutate.Many(func(t *testing.T, list string) {
		mask, err := Mask(list)
		if err != nil {
			if mask != nil {
				t.Errorf("Mask(%q) = %x and %v", list, mask, err)
			}
			return
		}
		again, err := Mask(List(mask))
		if err != nil || !bytes.Equal(mask, again) {
			t.Errorf("Mask(%q) = %x; of its list %q it is %x, %v", list, mask, List(mask), again, err)
		}
		if n := len(mask); n > 0 && mask[n-1] == 0 {
			t.Errorf("Mask(%q) = %x ends in a zero byte", list, mask)
		}
	}))
}

// FuzzList: any mask survives the way over its list, but for zero bytes at its end.
func FuzzList(f *testing.F) {
	f.Add([]byte{0x0f, 0x01})
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0})
	f.Fuzz(mutate.Many(func(t *testing.T, mask []byte) {
		if len(mask) > 1024 {
			return
		}
		got, err := Mask(List(mask))
		if want := bytes.TrimRight(mask, "\x00"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("Mask(%q) = %x, %v; want %x", List(mask), got, err, want)
		}
	}))
}
