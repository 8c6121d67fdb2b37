//! Tests on a kernel that has what the machine's own may lack, in a virtual machine. All of it is in `tests/`.
