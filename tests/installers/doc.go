// Package installers installs the packages the way an administrator does: in a
// machine of their own, booted with systemd in a container, by the package
// manager. It knows packages, units, commands and files, and nothing from inside.
package installers
