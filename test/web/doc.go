// Package web tries the web page of the API in a real browser: Debian's headless Chromium, driven
// over its DevTools protocol, against the real server with a registry of the test.
//
// Its tests need the build tag web; make test-web installs the browser and runs them.
package web
