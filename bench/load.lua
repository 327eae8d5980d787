-- wrk's script: fills the marks of one prepared HTTP request.
-- Arguments: file of the request, first and last patient, prefix and first number of documents, last number (0: count
-- upwards instead of drawing), seed, text that a checked answer must hold (empty: answers are not looked at), how often,
-- what every right answer holds, file of entryUUIDs to draw from, file of texts of which each request takes the next.
local following, texts, pieces, kinds, first_patient, last_patient, prefix, number, last_number, expected, times, entries
local draw = math.random

function setup(thread) worker = thread end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local text = file:read("*a")
  file:close()
  first_patient, last_patient = tonumber(args[2]), tonumber(args[3])
  prefix, number, last_number = args[4], tonumber(args[5]), tonumber(args[6])
  math.randomseed(tonumber(args[7]))
  expected, times = args[8], tonumber(args[9])
  local success = args[10]
  entries = {}
  for line in io.lines(args[11]) do entries[#entries + 1] = line end
  following, texts = 0, {}
  for line in io.lines(args[12]) do texts[#texts + 1] = line end
  pieces, kinds = {}, {}
  local from = 1
  while true do
    local at = text:find("\1", from, true)
    if not at then break end
    pieces[#pieces + 1] = text:sub(from, at - 1)
    kinds[#pieces + 1] = text:sub(at + 1, at + 1)
    pieces[#pieces + 1] = ""
    from = at + 2
  end
  pieces[#pieces + 1] = text:sub(from)
  bad = 0
  answer = ""
  if expected ~= "" then
    response = function(status, headers, body)
      local found, at = 0, 1
      while true do
        local _, stop = body:find(expected, at, true)
        if not stop then break end
        found, at = found + 1, stop + 1
      end
      if status ~= 200 or found ~= times or not body:find(success, 1, true) then
        bad = bad + 1
        answer = status .. " " .. body:sub(1, 2000)
      end
    end
  end
end

function request()
  local patient = tostring(draw(first_patient, last_patient))
  local name
  if last_number > 0 then
    name = prefix .. string.format("%012d", draw(number, last_number))
  else
    number = number + 1
    name = prefix .. string.format("%012d", number)
  end
  local entry = #entries > 0 and entries[draw(#entries)]
  following = following + 1
  for i, kind in pairs(kinds) do
    pieces[i] = kind == "P" and patient or kind == "E" and entry or kind == "A" and texts[following] or name
  end
  return table.concat(pieces)
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\nobieg {"requests":%d,"duration_us":%d,"bytes":%d,"errors":%d,"p50_us":%d,"p95_us":%d,"p99_us":%d,"bad":%d}\n',
    summary.requests, summary.duration, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99), worker:get("bad")))
  if worker:get("bad") > 0 then io.write("answer ", worker:get("answer"), "\n") end
end
