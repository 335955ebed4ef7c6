package term

import (
	"bytes"
	"unicode/utf8"
)

// Key is one key: the character that it types, or one of the names below.
type Key string

// Keys that type no character.
const (
	Up        Key = "up"
	Down      Key = "down"
	LeftKey   Key = "left"
	RightKey  Key = "right"
	PageUp    Key = "pgup"
	PageDown  Key = "pgdn"
	Home      Key = "home"
	End       Key = "end"
	Enter     Key = "enter"
	Escape    Key = "esc"
	Backspace Key = "backspace"
	Tab       Key = "tab"
	Interrupt Key = "ctrl-c"
	Suspend   Key = "ctrl-z"
	Refresh   Key = "ctrl-l"
)

// controls are the keys that send one byte.
var controls = map[byte]Key{'\r': Enter, '\n': Enter, 0x7f: Backspace, 8: Backspace, '\t': Tab, 3: Interrupt,
	0x1a: Suspend, 0x0c: Refresh}

// sequences are those that send ESC and more, without the ESC: of xterm and its relatives, of the
// VT220, of the Linux console and of rxvt.
var sequences = map[string]Key{
	"[A": Up, "[B": Down, "[C": RightKey, "[D": LeftKey, "OA": Up, "OB": Down, "OC": RightKey, "OD": LeftKey,
	"[H": Home, "[F": End, "OH": Home, "OF": End, "[1~": Home, "[4~": End, "[7~": Home, "[8~": End,
	"[5~": PageUp, "[6~": PageDown, "OM": Enter,
}

// decode takes the first key from what was read, and returns how many bytes it has. n is 0 where
// more has to be read to know; with last, nothing more comes, and an ESC is that key. A key without
// a name is "".
func decode(b []byte, last bool) (k Key, n int) {
	switch {
	case len(b) == 0:
		return "", 0
	case b[0] == 0x1b:
		return decodeEscape(b, last)
	case b[0] < 0x20 || b[0] == 0x7f:
		return controls[b[0]], 1
	case !utf8.FullRune(b) && !last:
		return "", 0
	}
	r, n := utf8.DecodeRune(b)
	if r == utf8.RuneError || r >= 0x80 && r < 0xa0 {
		return "", n
	}
	return Key(string(r)), n
}

// longestSequence is the most that a sequence of a key has, in bytes.
const longestSequence = 16

// decodeEscape is decode for what begins with an ESC. A sequence is ESC [, parameters and a final
// byte, or ESC O and one byte (ECMA-48, 5.4).
func decodeEscape(b []byte, last bool) (Key, int) {
	switch {
	case len(b) == 1 && last:
		return Escape, 1
	case len(b) == 1:
		return "", 0
	case b[1] == 0x1b:
		return Escape, 1
	case b[1] != '[' && b[1] != 'O':
		return "", 2 // with Alt, which means nothing here
	}
	end := bytes.IndexFunc(b[2:], func(r rune) bool { return r >= 0x40 && r <= 0x7e })
	switch {
	case end >= 0:
		return sequences[string(b[1:end+3])], end + 3
	case last || len(b) > longestSequence:
		return "", len(b)
	}
	return "", 0
}
