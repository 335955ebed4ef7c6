package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep a request's JSON may be nested. The deepest that any path takes is 3.
const maxDepth = 16

// decodeStrict decodes exactly one JSON object. encoding/json by itself takes the last of two
// fields of one name, ignores case, replaces what is not UTF-8, and takes null for anything: two
// programs could read two things in one body.
func decodeStrict(body []byte, into any) error {
	if err := checkText(body); err != nil {
		return err
	}
	w := walker{d: json.NewDecoder(bytes.NewReader(body))}
	w.d.UseNumber()
	if err := w.object(reflect.TypeOf(into).Elem()); err != nil {
		return asInvalid(err)
	}
	if _, err := w.d.Token(); !errors.Is(err, io.EOF) {
		return invalidParams(fmt.Sprintf("unexpected data after the JSON object at byte %d", w.d.InputOffset()), "")
	}
	if err := json.Unmarshal(w.written(body), into); err != nil {
		return asInvalid(err)
	}
	return nil
}

// asInvalid converts an error of encoding/json to the caller's.
func asInvalid(err error) error {
	var e *Error
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return invalidParams("the body ends inside its JSON", "")
	case errors.As(err, &syntax):
		return invalidParams(fmt.Sprintf("the body is not valid JSON at byte %d: %v", syntax.Offset, err), "")
	case errors.As(err, &kind) && kind.Field != "":
		return invalidParams(fmt.Sprintf("%s is a %.80s; it must be a %s", kind.Field, kind.Value,
			jsonKind(kind.Type.Kind().String())), lists+"the fields.")
	}
	return invalidParams("the body does not match the schema of this path: "+strings.TrimPrefix(err.Error(), "json: "),
		lists+"the fields.")
}

// walker reads the tokens of a body beside the type that it will be decoded into.
type walker struct {
	d     *json.Decoder
	depth int
	whole []replacement
}

// replacement is another spelling of a number, between two offsets of the body.
type replacement struct {
	from, to int64
	text     string
}

// object reads the body's only value, which must be an object.
func (w *walker) object(t reflect.Type) error {
	token, err := w.d.Token()
	if err != nil {
		return err
	}
	if token != json.Delim('{') {
		return invalidParams("the body is not a JSON object", lists+"the fields.")
	}
	return w.fields(t)
}

// value reads a value of any type; t is nil where nothing is known of it.
func (w *walker) value(t reflect.Type) error {
	token, err := w.d.Token()
	if err != nil {
		return err
	}
	return w.rest(token, t)
}

// rest reads a value behind its first token.
func (w *walker) rest(token json.Token, t reflect.Type) error {
	switch token := token.(type) {
	case json.Delim:
		if token == '{' {
			return w.fields(t)
		}
		return w.items(t)
	case json.Number:
		if t = plain(t); t != nil && t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64 {
			w.number(token.String())
		}
	}
	return nil
}

// number notes how a whole number is written without a fraction or an exponent, which encoding/json
// takes for no integer, though JSON has one type of numbers: several languages write 60000.0.
func (w *walker) number(text string) {
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	f, err := strconv.ParseFloat(text, 64)
	isPlain := !strings.ContainsAny(text, ".eE")
	rounds := len(mantissa) > 15 || f == 0 && strings.ContainsAny(mantissa, "123456789")
	if isPlain || rounds || err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return
	}
	end := w.d.InputOffset()
	w.whole = append(w.whole, replacement{end - int64(len(text)), end, strconv.FormatInt(int64(f), 10)})
}

// written returns the body with its whole numbers as encoding/json reads them.
func (w *walker) written(body []byte) []byte {
	if len(w.whole) == 0 {
		return body
	}
	var out []byte
	last := int64(0)
	for _, r := range w.whole {
		out = append(append(out, body[last:r.from]...), r.text...)
		last = r.to
	}
	return append(out, body[last:]...)
}

// fields reads an object behind its brace.
func (w *walker) fields(t reflect.Type) error {
	if err := w.deeper(); err != nil {
		return err
	}
	known := fieldsOf(t)
	seen := make(map[string]bool)
	for w.d.More() {
		token, err := w.d.Token()
		if err != nil {
			return err
		}
		name, ok := token.(string)
		if !ok {
			return invalidParams(fmt.Sprintf("the body is not valid JSON at byte %d", w.d.InputOffset()), "")
		}
		field, is := known[name]
		switch {
		case seen[name]:
			return invalidParams(fmt.Sprintf("the field %.64q is there twice", name), "Send it once.")
		case known != nil && !is:
			return invalidParams(fmt.Sprintf("the body does not match the schema of this path: unknown field %.64q",
				name), lists+"the fields.")
		}
		seen[name] = true
		if err := w.value(field); err != nil {
			return err
		}
	}
	return w.end()
}

// items reads a list behind its bracket.
func (w *walker) items(t reflect.Type) error {
	if err := w.deeper(); err != nil {
		return err
	}
	if t = plain(t); t != nil && t.Kind() == reflect.Slice {
		t = t.Elem()
	} else {
		t = nil
	}
	for w.d.More() {
		before := w.d.InputOffset()
		token, err := w.d.Token()
		switch {
		case err != nil:
			return err
		case token == nil: // encoding/json would take it for the zero value
			return invalidParams(fmt.Sprintf("a list has a null in it, behind byte %d", before), "Leave it out.")
		}
		if err := w.rest(token, t); err != nil {
			return err
		}
	}
	return w.end()
}

func (w *walker) deeper() error {
	if w.depth++; w.depth > maxDepth {
		return invalidParams(fmt.Sprintf("the JSON is nested deeper than %d", maxDepth), "")
	}
	return nil
}

// end reads the closing delimiter.
func (w *walker) end() error {
	w.depth--
	_, err := w.d.Token()
	return err
}

// plain returns the type behind pointers.
func plain(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// fieldsOf returns the fields of a struct by their names in JSON, nil for any other type.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if t = plain(t); t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	out := make(map[string]reflect.Type, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		out[name] = t.Field(i).Type
	}
	return out
}

// checkText refuses what is not UTF-8, and half a surrogate pair: decoders replace both, each in
// its own way.
func checkText(body []byte) error {
	if !utf8.Valid(body) {
		return invalidParams("the body is not valid UTF-8", "")
	}
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		high, isHigh := surrogate(body[i:])
		if !isHigh {
			i++ // the escaped character, which may be a backslash
			continue
		}
		low, isLow := surrogate(body[min(i+6, len(body)):])
		if high >= 0xdc00 || !isLow || low < 0xdc00 {
			return invalidParams(fmt.Sprintf("half a surrogate pair at byte %d", i), "Send the character as UTF-8.")
		}
		i += 11
	}
	return nil
}

// surrogate returns the code unit of \uXXXX at the beginning of text; ok is false for any other
// text and any code unit that is a character by itself.
func surrogate(text []byte) (unit rune, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	for _, c := range bytes.ToLower(text[2:6]) {
		digit := bytes.IndexByte([]byte("0123456789abcdef"), c)
		if digit < 0 {
			return 0, false
		}
		unit = unit<<4 | rune(digit)
	}
	return unit, unit >= 0xd800 && unit <= 0xdfff
}
