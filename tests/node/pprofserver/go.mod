module slowpod.test/pprofserver

go 1.19
