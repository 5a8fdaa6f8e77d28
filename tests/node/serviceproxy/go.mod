module slowpod.test/serviceproxy

go 1.19
