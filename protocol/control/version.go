package control

// Version is the version of this build, set by the linker; it is told to the
// other side at hello.
var Version = "dev"
