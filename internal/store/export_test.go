package store

// Outside is for tests of the package from outside it.
var Outside = outside
