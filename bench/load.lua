-- Sends the requests of a file in turn: wrk … -- requests body. Each line of `requests` is a method and a path.

local formatted, threads = {}, 0

function setup(thread)
   -- So that the threads do not meet at the same session.
   thread:set("nth", threads * 25)
   threads = threads + 1
end

function init(args)
   local body = io.open(args[2]):read("*a")
   if #body > 0 then wrk.headers["Content-Type"] = "application/json" end
   for line in io.lines(args[1]) do
      local method, path = line:match("^(%u+) (.+)$")
      formatted[#formatted + 1] = wrk.format(method, path, nil, method == "POST" and body or nil)
   end
end

function request()
   nth = nth + 1
   return formatted[nth % #formatted + 1]
end

function done(summary, latency)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   local p50, p99 = latency:percentile(50), latency:percentile(99)
   io.write(string.format("\nresult %d %d %d %d %d\n", summary.requests, summary.duration, failed, p50, p99))
end
