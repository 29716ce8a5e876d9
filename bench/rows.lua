-- What wrk runs to ask for each row once, or several times, as the user whose it is:
--   wrk … URL -- GET|PATCH USERS FIRST LAST TIMES [MARK]
-- USERS is a file with a token a line; row n is that of line (n - 1) % lines + 1. A PATCH sets the row's title to MARK and
-- which time it is. Prints "all" once all are sent, then, as wrk.lua does, its figures.

dofile(debug.getinfo(1, "S").source:match("^@(.*)rows%.lua$") .. "wrk.lua")

function init(args)
  local method, first, last, times, mark = args[1], tonumber(args[3]), tonumber(args[4]), tonumber(args[5]), args[6]
  local request_of = form(method, lines_of(args[2]), mark)
  local number, time, is_looked_at = first - 1, 1, false
  request = function()
    -- wrk takes one request to look at it.
    if not is_looked_at then
      is_looked_at = true
      return request_of(first, 1)
    end
    if number == last then
      if time == times then return finish() end
      number, time = first - 1, time + 1
    end
    number = number + 1
    return request_of(number, time)
  end
end

function lines_of(file)
  local lines = {}
  for line in io.lines(file) do lines[#lines + 1] = line end
  return lines
end

-- A function that makes the request for a row.
function form(method, tokens, mark)
  local start = ("%s %s?id=eq."):format(method, wrk.path)
  local fields = {}
  for name, value in pairs(wrk.headers) do fields[#fields + 1] = name .. ": " .. value .. "\r\n" end
  table.sort(fields)
  local head = (method == "GET" and "&select=*" or "") .. " HTTP/1.1\r\n" .. table.concat(fields) .. "Authorization: Bearer "
  return function(number, time)
    local token = tokens[(number - 1) % #tokens + 1]
    local body = method == "GET" and "" or ('{"title":"%s %d"}'):format(mark, time)
    local length = method == "GET" and "" or "\r\nContent-Length: " .. #body
    return start .. number .. head .. token .. length .. "\r\n\r\n" .. body
  end
end

-- All are sent: what is sent after that isn't waited for.
function finish()
  if not is_finished then
    is_finished = true
    io.write("all\n")
    io.flush()
    wrk.thread:stop()
  end
  return "GET / HTTP/1.1\r\nHost: " .. wrk.host .. "\r\n\r\n"
end
