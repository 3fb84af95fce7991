// Package transform runs the pure steps of one hop — filter, map and set — over
// the records of a page. It compiles expressions once and answers the same bytes
// for the same page every time. It knows no queue, no connection and no job; it
// reaches no file, no network, no environment and no clock.
package transform
