package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// TestStrictBodies: a body that two programs could read in two ways is refused, and what is the
// same JSON in another form is taken.
func TestStrictBodies(t *testing.T) {
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	for _, c := range []struct{ name, body, says string }{
		{"twice", `{"holder":"a","holder":"b"}`, `the field "holder" is there twice`},
		{"twice_by_an_escape", `{"holder":"a","h\u006flder":"b"}`, `the field "holder" is there twice`},
		{"unknown", `{"ttl":1}`, `unknown field "ttl"`},
		{"another_case", `{"Holder":"a"}`, `unknown field "Holder"`},
		{"null", `null`, "the body is not a JSON object"},
		{"a_list", `[{}]`, "the body is not a JSON object"},
		{"a_string", `"holder"`, "the body is not a JSON object"},
		{"a_number", `1`, "the body is not a JSON object"},
		{"nested", `{"holder":` + deep + `}`, "nested deeper than 16"},
		{"not_utf8", "{\"holder\":\"\xff\"}", "not valid UTF-8"},
		{"half_a_pair", `{"holder":"\ud800"}`, "half a surrogate pair at byte 11"},
		{"the_other_half", `{"holder":"\udc00\ud800"}`, "half a surrogate pair at byte 11"},
		{"two_first_halves", `{"holder":"\ud800\ud800"}`, "half a surrogate pair"},
		{"byte_order_mark", "\ufeff{}", "not valid JSON"},
		{"a_string_for_a_number", `{"ttl_ms":"5"}`, "ttl_ms is a string; it must be a whole number"},
		{"a_number_for_a_string", `{"holder":5}`, "holder is a number; it must be a string"},
		{"beyond_64_bits", `{"ttl_ms":9223372036854775808}`, "ttl_ms is a number 9223372036854775808"},
		{"a_fraction", `{"ttl_ms":1000.5}`, "ttl_ms is a number 1000.5"},
		{"a_fraction_beyond_what_floats_can_tell", `{"ttl_ms":1000.0000000000000000001}`, "ttl_ms is a number 1000.00"},
		{"a_tiny_fraction", `{"ttl_ms":1e-400}`, "ttl_ms is a number 1e-400"},
		{"a_huge_exponent", `{"ttl_ms":1e999999999}`, "ttl_ms is a number 1e999999999"},
		{"an_object_for_a_string", `{"holder":{}}`, "holder is a object"},
		{"cut", `{"holder":"a"`, "the body ends inside its JSON"},
		{"trailing", `{} x`, "unexpected data"},
		{"comment", `{/* */}`, "not valid JSON"},
		{"trailing_comma", `{"holder":"a",}`, "not valid JSON"},
		{"single_quotes", `{'holder':'a'}`, "not valid JSON"},
		{"no_body", `{}`, ""},
		{"an_absent_field", `{"holder":null,"ttl_ms":null}`, ""},
		{"escaped", `{"hold\u0065r":"\ud83d\ude00 \\ud800"}`, ""},
		{"the_largest_number", `{"ttl_ms":9223372036854775807}`, ""},
		{"a_whole_number_as_other_languages_write_it", `{"ttl_ms":60000.0}`, ""},
		{"a_whole_number_with_an_exponent", `{"ttl_ms":6E+4,"holder":"1.0"}`, ""},
		{"spaces", " \r\n\t{ \"holder\" : \"a\" } \n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := decodeStrict([]byte(c.body), &wire.LeaseRequest{})
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("it was taken")
			}
			if e := asError(err); e.Status != http.StatusBadRequest || !strings.Contains(e.Body.Message, c.says) {
				t.Errorf("%d %s, want %q", e.Status, e.Body.Message, c.says)
			}
		})
	}
	t.Run("inside_a_field", func(t *testing.T) {
		for _, body := range []string{`{"prepared":{"host":"a","host":"b"}}`, `{"prepared":{"Host":"a"}}`,
			`{"prepared":{"flags":[null]}}`, `{"prepared":{"flags":["a", null]}}`, `{"prepared":{"device_mask":[null]}}`} {
			if err := decodeStrict([]byte(body), &wire.PreloadRequest{}); err == nil {
				t.Errorf("%s was taken", body)
			}
		}
	})
}

// TestDeclaredBodies: what the headers declare of a body is believed, and anything but plain JSON
// in UTF-8 is refused.
func TestDeclaredBodies(t *testing.T) {
	h := serve(t, Settings{}, units{})
	for _, c := range []struct {
		header, value string
		status        int
	}{
		{"Content-Type", "application/json", 202}, {"Content-Type", "application/json; charset=UTF-8", 202},
		{"Content-Type", "application/json; charset=latin1", 415}, {"Content-Type", "text/json", 415},
		{"Content-Encoding", "gzip", 415}, {"Content-Encoding", "identity", 202},
	} {
		h.reg.Put(registry.Pool{ID: "a", State: registry.StateStopped})
		r := h.ask(h.overSocket(), http.MethodPost, "http://socket/v1/pools/a/drain", "{}",
			"Content-Type", "application/json", c.header, c.value)
		if r.status != c.status {
			t.Errorf("%s: %s: %d %s, want %d", c.header, c.value, r.status, r.body, c.status)
		}
	}
}

// TestWholeNumbers: whatever the spelling of a number, the field has its value, and texts that look
// like numbers stay.
func TestWholeNumbers(t *testing.T) {
	for body, want := range map[string]int64{
		`{"ttl_ms":60000.0}`: 60000, `{"ttl_ms":6e4,"holder":"6e4"}`: 60000, `{"holder":"1.0","ttl_ms":-1.50E2}`: -150,
		`{"ttl_ms":0.0}`: 0, ` { "ttl_ms" : 9007199254740.0 } `: 9007199254740,
	} {
		var into wire.LeaseRequest
		if err := decodeStrict([]byte(body), &into); err != nil || into.TTLMS == nil || *into.TTLMS != want {
			t.Errorf("%s: %+v, %v; want %d", body, into.TTLMS, err, want)
		}
		if into.Holder != "" && !strings.Contains(body, `"`+into.Holder+`"`) {
			t.Errorf("%s: the holder is %q", body, into.Holder)
		}
	}
}
