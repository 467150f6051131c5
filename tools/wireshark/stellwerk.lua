-- Takes apart what `stellwerk trace export --format pcapng` has written: messages between a cluster's processes, and what each
-- of them put on record. Copy it to Wireshark's personal Lua plugins (Help > About > Folders), or say
--   wireshark -X lua_script:tools/wireshark/stellwerk.lua FILE
-- Filters: stellwerk.kind == "migration.commit", stellwerk.vm == "web-1", stellwerk.level == 0, stellwerk.lost == 1.
-- The layout stands in packages/cli/src/trace/export-packet.ts.

local PORT = 8383
local VERSION = 1
local HEAD = 32

local stellwerk = Proto("stellwerk", "Stellwerk trace")

local WHATS = { [0] = "record", [1] = "message" }
local LEVELS = { [0] = "decision", [1] = "message", [2] = "io" }

local f = {
  what = ProtoField.uint8("stellwerk.what", "What", base.DEC, WHATS),
  level = ProtoField.uint8("stellwerk.level", "Level", base.DEC, LEVELS),
  seq = ProtoField.uint32("stellwerk.seq", "Record of its process"),
  at = ProtoField.double("stellwerk.at", "Monotonic clock, ms"),
  wall = ProtoField.double("stellwerk.wall_ms", "Wall clock, ms since 1970"),
  counter = ProtoField.uint32("stellwerk.hlc_counter", "Logical counter"),
  lost = ProtoField.bool("stellwerk.lost", "Never received, as far as is on record"),
  unsent = ProtoField.bool("stellwerk.unsent", "Who sent it has no record of it"),
  again = ProtoField.bool("stellwerk.again", "It had been received before"),
  kind = ProtoField.string("stellwerk.kind", "Kind"),
  process = ProtoField.string("stellwerk.process", "Process"),
  host = ProtoField.string("stellwerk.host", "Host"),
  vm = ProtoField.string("stellwerk.vm", "VM"),
  volume = ProtoField.string("stellwerk.volume", "Volume"),
  disk = ProtoField.string("stellwerk.disk", "Disk"),
  migration = ProtoField.string("stellwerk.migration", "Migration"),
  cause = ProtoField.string("stellwerk.cause", "Cause"),
  cause_process = ProtoField.string("stellwerk.cause.process", "Process of the cause"),
  cause_seq = ProtoField.double("stellwerk.cause.seq", "Record of the cause"),
  from = ProtoField.string("stellwerk.from", "From"),
  to = ProtoField.string("stellwerk.to", "To"),
  message_seq = ProtoField.double("stellwerk.message_seq", "Number in its session"),
  re = ProtoField.double("stellwerk.re", "Answers number"),
  code = ProtoField.string("stellwerk.code", "Error"),
  bytes = ProtoField.double("stellwerk.bytes", "Bytes on the wire"),
  latency = ProtoField.double("stellwerk.latency_ms", "Time until received, ms"),
  body = ProtoField.string("stellwerk.body", "Body"),
  body_bytes = ProtoField.double("stellwerk.body_bytes", "Body is cut, bytes in all"),
  order = ProtoField.double("stellwerk.order", "Place in the simulated run"),
}

stellwerk.fields = {
  f.what, f.level, f.seq, f.at, f.wall, f.counter, f.lost, f.unsent, f.again, f.kind, f.process, f.host, f.vm, f.volume,
  f.disk, f.migration, f.cause, f.cause_process, f.cause_seq, f.from, f.to, f.message_seq, f.re, f.code, f.bytes, f.latency,
  f.body, f.body_bytes, f.order,
}

local lost_message = ProtoExpert.new(
  "stellwerk.lost.expert", "The message was never received", expert.group.SEQUENCE, expert.severity.WARN)
local refused = ProtoExpert.new(
  "stellwerk.code.expert", "The answer is an error", expert.group.RESPONSE_CODE, expert.severity.NOTE)
stellwerk.experts = { lost_message, refused }

-- Field types, by number; `number` ones are doubles.
local TYPES = {
  [1] = { f.kind }, [2] = { f.process }, [3] = { f.host }, [4] = { f.vm }, [5] = { f.volume }, [6] = { f.disk },
  [7] = { f.migration }, [8] = { f.cause_process }, [9] = { f.cause_seq, number = true }, [10] = { f.from }, [11] = { f.to },
  [12] = { f.message_seq, number = true }, [13] = { f.re, number = true }, [14] = { f.code },
  [15] = { f.bytes, number = true }, [16] = { f.latency, number = true }, [17] = { f.body },
  [18] = { f.body_bytes, number = true }, [19] = { f.order, number = true },
}
local NAMES = {
  [1] = "kind", [4] = "vm", [5] = "volume", [7] = "migration", [8] = "cause_process", [9] = "cause_seq", [13] = "re",
  [14] = "code", [2] = "process", [3] = "host",
}

local json = nil

function stellwerk.dissector(buffer, pinfo, root)
  local length = buffer:len()
  if length < HEAD or buffer(0, 4):string() ~= "SWTR" or buffer(4, 1):uint() ~= VERSION then return 0 end
  pinfo.cols.protocol = "STELLWERK"
  local tree = root:add(stellwerk, buffer())
  local what = buffer(5, 1):uint()
  local flags = buffer(7, 1):uint()
  tree:add(f.what, buffer(5, 1))
  tree:add(f.level, buffer(6, 1))
  tree:add(f.seq, buffer(8, 4))
  tree:add(f.at, buffer(12, 8))
  tree:add(f.wall, buffer(20, 8))
  tree:add(f.counter, buffer(28, 4))
  if what == 1 then
    local lost = bit.band(flags, 1) ~= 0
    local item = tree:add(f.lost, buffer(7, 1), lost)
    if lost then item:add_proto_expert_info(lost_message) end
    tree:add(f.unsent, buffer(7, 1), bit.band(flags, 2) ~= 0)
    tree:add(f.again, buffer(7, 1), bit.band(flags, 4) ~= 0)
  end

  local said = {}
  local at = HEAD
  while at + 4 <= length do
    local kind = buffer(at, 1):uint()
    local size = buffer(at + 2, 2):uint()
    if at + 4 + size > length then break end
    local field = TYPES[kind]
    if field ~= nil and size > 0 then
      local range = buffer(at + 4, size)
      local item = tree:add(field[1], range)
      if NAMES[kind] ~= nil then said[NAMES[kind]] = field.number and range:float() or range:string() end
      if kind == 14 then item:add_proto_expert_info(refused) end
      if kind == 17 then
        json = json or Dissector.get("json")
        -- Only a whole body is JSON.
        if json ~= nil and said.cut == nil then json:call(range:tvb(), pinfo, item) end
      end
      if kind == 18 then said.cut = true end
    end
    at = at + 4 + size
  end
  if said.cause_process ~= nil then
    tree:add(f.cause, string.format("%s #%d", said.cause_process, said.cause_seq or 0)):set_generated()
  end

  local info = said.kind or "?"
  if said.re ~= nil then info = info .. " (answer)" end
  if said.code ~= nil then info = info .. ": " .. said.code end
  for _, name in ipairs({ "vm", "volume", "migration", "host" }) do
    if said[name] ~= nil then info = info .. " " .. name .. "=" .. said[name] end
  end
  if what == 1 and bit.band(flags, 1) ~= 0 then info = info .. " [lost]" end
  tree:append_text(", " .. (said.process or "?") .. ": " .. (said.kind or "?"))
  -- The dissector of the body has written its own.
  pinfo.cols.protocol = "STELLWERK"
  pinfo.cols.info = info
  return length
end

DissectorTable.get("udp.port"):add(PORT, stellwerk)
