package api

import (
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// fromForeignPage returns the refusal of a request that a page of another web site made a browser
// send, nil for any other. The browser says so itself, in headers that no page can set or remove
// (https://www.w3.org/TR/fetch-metadata/, RFC 6454 7.3). Reads are refused too: a page may learn
// something from whether, and when, a resource loads.
func fromForeignPage(r *http.Request) *Error {
	const hint = "A web page may use this API from its own origin only, through a proxy."
	if site := r.Header["Sec-Fetch-Site"]; len(site) > 0 && site[0] != "same-origin" && site[0] != "none" {
		return forbidden("a page of another web site sent this request", hint)
	}
	if origin := r.Header["Origin"]; len(origin) > 0 && !sameOrigin(origin[0], r.Host) {
		return forbidden("a page of another origin sent this request", hint)
	}
	return nil
}

// sameOrigin reports whether an Origin header names the host that the request was sent to. A proxy
// may have ended TLS, so that the scheme does not count.
func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// explicitHeaders are headers that a browser does not send for a page of another site without
// asking before (https://fetch.spec.whatwg.org/#http-cors-protocol), which this API never allows.
var explicitHeaders = [...]string{"X-Requested-With", correlationHeader}

// isForm returns the refusal of a POST as a form of a web page could send it, where nothing but its
// address identifies the caller. PUT and DELETE cannot be sent so.
func isForm(r *http.Request, c *caller) *Error {
	if c.kind != callerLocal || r.Method != http.MethodPost || isJSON(r) {
		return nil
	}
	for _, h := range explicitHeaders {
		if r.Header.Get(h) != "" {
			return nil
		}
	}
	return problem(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE",
		"without a token, a POST needs the content type of JSON",
		"Send Content-Type: application/json, also without a body.")
}

// isJSON reports whether the body is declared as JSON, which is UTF-8 (RFC 8259 8.1).
func isJSON(r *http.Request) bool {
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := parameters["charset"]
	return err == nil && kind == "application/json" && (charset == "" || strings.EqualFold(charset, "utf-8"))
}
