package api

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// FuzzEventQuery: any query and any Last-Event-ID is refused as the caller's fault, or asks for
// events after a position.
func FuzzEventQuery(f *testing.F) {
	h := newServer(f, Settings{}, units{})
	f.Add("pool=a&replay=true&follow=false", h.server.epoch+"-7")
	f.Add("replay=perhaps", "")
	f.Add("pool=a&pool=b", "another-18446744073709551615")
	f.Add("%zz;=", "-")
	f.Fuzz(mutate.Many(func(t *testing.T, query, last string) {
		r := &http.Request{URL: &url.URL{Path: "/v1/events", RawQuery: query}, Header: http.Header{}}
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		q, err := h.server.eventQuery(r)
		if err != nil {
			e := asError(err)
			if e.Status != http.StatusBadRequest || e.Body.Code != "INVALID_PARAMS" || e.Body.Message == "" {
				t.Errorf("%q, %q: %+v", query, last, e)
			}
			return
		}
		if q.gap && q.after != 0 {
			t.Errorf("%q, %q: %+v begins in the middle after a gap", query, last, q)
		}
	}))
}
