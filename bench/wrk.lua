-- What wrk runs. Prints its figures as a line of JSON; gives requests keys where it is asked to:
--   wrk … URL -- random LAST      ?v= any of 1 to LAST, each as likely as the others
--   wrk … URL -- each FIRST LAST  ?v= FIRST to LAST in order, then over again; prints "all" after the first time

function init(args)
  -- Without a function of its own wrk sends the same bytes each time.
  if #args == 0 then return end
  local head, tail = wrk.format("GET", wrk.path .. "?v=@"):match("^(.-@)(.*)$")
  head, tail = head:sub(1, -2), in_fixed_order(tail)
  local key = args[1] == "random" and at_random(tonumber(args[2])) or in_order(tonumber(args[2]), tonumber(args[3]))
  request = function() return head .. key() .. tail end
end

-- wrk's own order of the fields is another one in each of its processes; a client's isn't.
function in_fixed_order(tail)
  local line, fields = tail:match("^(.-\r\n)(.*)\r\n$")
  local sorted = {}
  for field in fields:gmatch("[^\r\n]+") do sorted[#sorted + 1] = field end
  table.sort(sorted)
  return line .. table.concat(sorted, "\r\n") .. "\r\n\r\n"
end

function at_random(last)
  math.randomseed(os.time())
  return function() return math.random(last) end
end

function in_order(first, last)
  -- wrk takes one request to look at it, and others are still under way when the last key is sent.
  local number, asked, enough = first - 1, 0, last - first + 256
  return function()
    number = number < last and number + 1 or first
    asked = asked + 1
    if asked == enough then
      io.write("all\n")
      io.flush()
    end
    return number
  end
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout
  local form = '{"requests":%d,"bytes":%d,"seconds":%.6f,"failed":%d,"refused":%d,"p50":%.3f,"p99":%.3f}\n'
  local p50, p99 = latency:percentile(50) / 1000, latency:percentile(99) / 1000
  io.write(form:format(summary.requests, summary.bytes, summary.duration / 1e6, failed, errors.status, p50, p99))
end
