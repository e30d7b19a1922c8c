import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import * as mac from '../../../agent/observe/darwin/parse.ts'
import type { MachineDoors, MachineFacts } from '../../../agent/observe/facts.ts'
import { createObserver } from '../../../agent/observe/index.ts'
import * as linux from '../../../agent/observe/linux/parse.ts'
import type { MemoryView } from '../../../agent/observe/linux/pressure.ts'
import { pressureOf } from '../../../agent/observe/linux/pressure.ts'
import { parseSimulation, reportAs, shareOf } from '../../../agent/observe/simulate.ts'
import { allocatableBytes } from '../../../src/api/hardware.ts'

const GIB = 2 ** 30
const PAGE = 16384
/** A recording of a real Mac; provenance in test/fixtures/macos/README.md. */
const recorded = (name: string): string =>
  readFileSync(new URL(`../../fixtures/macos/${name}`, import.meta.url), 'utf8')

const doors = (texts: Readonly<Record<string, string>>): MachineDoors => ({
  readText: (path) => Promise.resolve(texts[path]),
  runText: (command, args) => Promise.resolve(texts[[command, ...args].join(' ')]),
  volume: () => Promise.resolve({ freeBytes: 10 * GIB, totalBytes: 100 * GIB }),
})
const idle = { pids: [], loadedBytes: 0 }

describe('what macOS commands print', () => {
  test.each([
    ['sw_vers/2-macmini-m4-macos26.3.txt', '26.3'],
    ['sw_vers/3-m4-macos27.0.txt', '27.0'],
    ['sw_vers/4-macos15.7.4.txt', '15.7.4'],
  ])('%s: version %s', (file, version) => expect(mac.osVersion(recorded(file))).toBe(version))

  test('sysctl: values by key, numbers where they are numbers', () => {
    const mini = mac.sysctlValues(recorded('sysctl/4-macmini-m2pro-macos26.5.1.txt'))
    expect(mini.get('hw.model')).toBe('Mac14,12')
    expect(mac.sysctlNumber(mini, 'hw.memsize')).toBe(32 * GIB)
    expect(mac.sysctlNumber(mini, 'hw.model')).toBeUndefined()
    expect(mac.sysctlNumber(mini, 'absent')).toBeUndefined()
    const pro = mac.sysctlValues(recorded('sysctl/2-m1pro-grep-cpu.txt'))
    expect(pro.get('machdep.cpu.brand_string')).toBe('Apple M1 Pro')
  })
  test('the boot is named by its time', () => {
    expect(mac.bootTimeSeconds(recorded('sysctl/6-m1pro-boottime-n.txt'))).toBe(1779754624)
  })
  test('the pressure level is a number: 1, 2, 4', () => {
    const values = mac.sysctlValues(recorded('sysctl/8-48gb-18core-pressure2.txt'))
    expect(mac.pressureLevel(mac.sysctlNumber(values, 'kern.memorystatus_vm_pressure_level'))).toBe('Warn')
    expect([1, 4, undefined].map(mac.pressureLevel)).toEqual(['Normal', 'Critical', undefined])
  })

  test.each([
    ['vm_stat/1-macmini-32gb.txt', 145189 * PAGE, 115383 * PAGE],
    ['vm_stat/3-macmini-16gb-wide.txt', 146638 * PAGE, 419678 * PAGE],
    ['vm_stat/4-intel-4k-pages.txt', 986842 * 4096, 737949 * 4096],
    ['vm_stat/5-m3ultra-512gb-partial.txt', 1434855 * PAGE, undefined],
  ])('%s: wired and compressor in bytes of its own page size', (file, wired, compressor) => {
    expect(mac.vmStatBytes(recorded(file), 'Pages wired down')).toBe(wired)
    expect(mac.vmStatBytes(recorded(file), 'Pages occupied by compressor')).toBe(compressor)
  })
  test('vm_stat: quoted labels are labels, too', () => {
    expect(mac.vmStatBytes(recorded('vm_stat/1-macmini-32gb.txt'), 'Translation faults')).toBe(242331850 * PAGE)
  })
  test.each([
    ['memory_pressure/1-macmini-32gb.txt', 32, 0.87],
    ['memory_pressure/3-16gb-macos27.0.txt', 16, 0.57],
    ['memory_pressure/5-q-8gb-macos26.6.txt', 8, 0.38],
  ])('%s: %d GiB, %d free', (file, gib, freeShare) =>
    expect(mac.memoryPressure(recorded(file))).toEqual({ memoryBytes: gib * GIB, freeShare }),
  )

  test('system_profiler: chip and model, GPU cores as text', () => {
    const hardware = (name: string) => mac.hardware(recorded(`system_profiler-SPHardwareDataType/${name}`))
    expect(hardware('1-m2-mbp-macos14.json')).toEqual({ chip: 'Apple M2', model: 'Mac14,7' })
    expect(hardware('3-virtual-machine-on-m4max.json')).toEqual({
      chip: 'Apple M4 Max (Virtual)',
      model: 'VirtualMac2,1',
    })
    const cores = (name: string) => mac.displayGpuCores(recorded(`system_profiler-SPDisplaysDataType/${name}`))
    expect(cores('1-m1pro-external-and-sidecar.json')).toBe(16)
    expect(cores('2-m1-air.json')).toBe(7)
    expect(mac.displayGpuCores('not json')).toBeUndefined()
  })
  test.each([
    ['1-m4-trimmed.txt', 10],
    ['3-m5pro-trimmed.txt', 16],
    ['2-m4-trimmed.txt', undefined],
  ])('ioreg %s: %s GPU cores', (file, cores) =>
    expect(mac.ioregGpuCores(recorded(`ioreg-accelerator/${file}`))).toBe(cores),
  )
})

test.each([
  ['1-m4-trimmed.txt', 0.3],
  ['2-m4-trimmed.txt', 0.1],
  ['3-m5pro-trimmed.txt', 0.33],
])('ioreg %s: the GPU is busy %d of the time', (file, share) =>
  expect(mac.ioregGpuBusy(recorded(`ioreg-accelerator/${file}`))).toBe(share),
)
test('a GPU that does not say how busy it is', () => {
  expect(mac.ioregGpuBusy('')).toBeUndefined()
  expect(mac.ioregGpuBusy('"PerformanceStatistics" = {"Device Utilization %"=17179869184}')).toBeUndefined()
})

describe('a Mac', () => {
  const mini = {
    sw_vers: recorded('sw_vers/2-macmini-m4-macos26.3.txt'),
    'sysctl machdep.cpu.brand_string hw.memsize hw.model kern.boottime': [
      'machdep.cpu.brand_string: Apple M4',
      'hw.memsize: 17179869184',
      'hw.model: Mac16,10',
      `kern.boottime: ${recorded('sysctl/6-m1pro-boottime-n.txt')}`,
    ].join('\n'),
    'ioreg -r -d 1 -w 0 -c IOAccelerator': recorded('ioreg-accelerator/1-m4-trimmed.txt'),
    vm_stat: recorded('vm_stat/3-macmini-16gb-wide.txt'),
    'sysctl kern.memorystatus_vm_pressure_level': 'kern.memorystatus_vm_pressure_level: 1\n',
  }
  const observe = createObserver({ platform: 'darwin', doors: doors(mini), dataDir: '/x' })
  const headroom = 16 * GIB - (146638 + 419678) * PAGE - GIB

  test('is observed whole', async () => {
    expect(await observe(idle)).toEqual({
      chip: 'Apple M4',
      gpuCores: 10,
      memoryBytes: 16 * GIB,
      osVersion: '26.3',
      hardwareModel: 'Mac16,10',
      bootId: 'boot-1779754624',
      pressure: 'Normal',
      headroomBytes: headroom,
      wiredBytes: 146638 * PAGE,
      usedBytes: (280815 - 60 + 146638 + 419678) * PAGE,
      gpuBusy: 0.3,
      diskFreeBytes: 10 * GIB,
      diskTotalBytes: 100 * GIB,
    })
  })
  test('what our own engines have wired does not count as taken by others', async () => {
    expect((await observe({ pids: [], loadedBytes: GIB })).headroomBytes).toBe(headroom + GIB)
    expect((await observe({ pids: [], loadedBytes: 99 * GIB })).headroomBytes).toBe(headroom + 146638 * PAGE)
  })
  test('with nothing but system_profiler still says what it is', async () => {
    const bare = {
      'system_profiler -json SPHardwareDataType': recorded('system_profiler-SPHardwareDataType/1-m2-mbp-macos14.json'),
      'system_profiler -json SPDisplaysDataType': recorded('system_profiler-SPDisplaysDataType/2-m1-air.json'),
      'memory_pressure -Q': recorded('memory_pressure/5-q-8gb-macos26.6.txt'),
    }
    const facts = await createObserver({ platform: 'darwin', doors: doors(bare), dataDir: '/x' })(idle)
    expect(facts).toMatchObject({ chip: 'Apple M2', gpuCores: 7, memoryBytes: 8 * GIB, hardwareModel: 'Mac14,7' })
    expect(facts.headroomBytes).toBeUndefined()
    expect([facts.wiredBytes, facts.usedBytes, facts.gpuBusy]).toEqual([undefined, undefined, undefined])
  })
})

describe('a Linux machine', () => {
  const meminfo = (total: number, available: number) =>
    `MemTotal:       ${total / 1024} kB\nMemFree:        1 kB\nMemAvailable:   ${available / 1024} kB\n`
  const machine = {
    '/proc/meminfo': meminfo(24 * GIB, 20 * GIB),
    '/proc/cpuinfo': 'processor\t: 0\nmodel name\t: AMD EPYC  7B13\nflags\t: x\n',
    '/proc/sys/kernel/random/boot_id': 'abc-def\n',
    '/proc/sys/kernel/osrelease': '6.1.0-18\n',
    '/proc/self/cgroup': '0::/\n',
  }
  const observe = (texts: Record<string, string>, own: { pids: number[]; loadedBytes: number } = idle) =>
    createObserver({ platform: 'linux', doors: doors({ ...machine, ...texts }), dataDir: '/x' })(own)

  test('is observed whole', async () => {
    expect(await observe({})).toMatchObject({
      chip: 'AMD EPYC 7B13',
      memoryBytes: 24 * GIB,
      bootId: 'abc-def',
      osVersion: 'Linux 6.1.0-18',
      headroomBytes: 19 * GIB,
      usedBytes: 4 * GIB,
      pressure: 'Normal',
    })
    const locked = `${meminfo(24 * GIB, 20 * GIB)}Unevictable:    2048 kB\n`
    expect(await observe({ '/proc/meminfo': locked })).toMatchObject({ wiredBytes: 2 ** 21 })
  })
  test('what our own engines hold does not count as taken by others', async () => {
    const status = 'Name:\tpython\nVmRSS:\t 2097152 kB\n'
    expect((await observe({ '/proc/7/status': status }, { pids: [7, 8], loadedBytes: 0 })).headroomBytes).toBe(21 * GIB)
  })
  test("a container's limit is its memory, of whichever group above it sets one", async () => {
    const v2 = {
      '/proc/self/cgroup': '0::/kube/pod1\n',
      '/sys/fs/cgroup/kube/pod1/memory.max': 'max\n',
      '/sys/fs/cgroup/kube/memory.max': `${8 * GIB}\n`,
      '/sys/fs/cgroup/kube/memory.current': `${3 * GIB}\n`,
      '/sys/fs/cgroup/kube/memory.stat': `anon 5\ninactive_file ${GIB}\n`,
    }
    expect(await observe(v2)).toMatchObject({ memoryBytes: 8 * GIB, headroomBytes: 5 * GIB, usedBytes: 2 * GIB })
    const v1 = {
      '/proc/self/cgroup': '9:name=systemd:/\n4:memory:/a\n0::/\n',
      '/sys/fs/cgroup/memory/a/memory.limit_in_bytes': `${4 * GIB}\n`,
      '/sys/fs/cgroup/memory/a/memory.usage_in_bytes': `${GIB}\n`,
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
    }
    expect(await observe(v1)).toMatchObject({ memoryBytes: 4 * GIB, headroomBytes: 2 * GIB })
  })
  test.each([
    [0.5, 'Normal'],
    [0.08, 'Warn'],
    [0.02, 'Critical'],
  ])('%d of the memory available: pressure %s', async (share, pressure) => {
    const available = Math.round(24 * GIB * share) - (Math.round(24 * GIB * share) % 1024)
    expect((await observe({ '/proc/meminfo': meminfo(24 * GIB, available) })).pressure).toBe(pressure)
  })
  test('memory.high slows down and kills nobody: it bounds what is planned and warns', async () => {
    const at = (usedBytes: number, stalls = 'some avg10=0.00 x\nfull avg10=0.00 x\n') =>
      observe({
        '/proc/self/cgroup': '0::/a\n',
        '/sys/fs/cgroup/a/memory.max': 'max\n',
        '/sys/fs/cgroup/a/memory.high': `${10 * GIB}\n`,
        '/sys/fs/cgroup/a/memory.current': `${usedBytes}\n`,
        '/sys/fs/cgroup/a/memory.pressure': stalls,
      })
    expect(await at(2 * GIB)).toMatchObject({ memoryBytes: 10 * GIB, headroomBytes: 7 * GIB, pressure: 'Normal' })
    expect((await at(10 * GIB)).pressure).toBe('Warn')
    expect((await at(10 * GIB, 'some avg10=80.00 x\nfull avg10=60.00 x\n')).pressure).toBe('Critical')
  })
  test('the stalls of its kernel are read beside what is left', async () => {
    const psi =
      'some avg10=31.24 avg60=9.10 avg300=2.05 total=8512012\nfull avg10=24.90 avg60=7.00 avg300=1.60 total=610022\n'
    const at = async (availableGib: number) =>
      (await observe({ '/proc/meminfo': meminfo(24 * GIB, availableGib * GIB), '/proc/pressure/memory': psi })).pressure
    expect([await at(20), await at(4)]).toEqual(['Normal', 'Critical'])
  })
  test('PSI: what this kernel prints, and what is no account', () => {
    const calm = 'some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n'
    expect(linux.memoryStalls(calm)).toEqual({ someAvg10: 0, fullAvg10: 0 })
    // Kernels before 5.13 have no line "full" for the CPU; of memory both are always there.
    for (const text of [undefined, '', 'some avg10=1.00 avg60=0.00 avg300=0.00 total=0\n', 'Operation not supported'])
      expect(linux.memoryStalls(text)).toBeUndefined()
  })
  const view = (freeShare: number, stalls?: [some: number, full: number], soft = false): MemoryView => ({
    limitBytes: 1_000,
    usedBytes: 1_000 - freeShare * 1_000,
    soft,
    ...(stalls === undefined ? {} : { stalls: { someAvg10: stalls[0], fullAvg10: stalls[1] } }),
  })
  test.each([
    ['plenty, and no account of stalls', view(0.5), 'Normal'],
    ['little left', view(0.09), 'Warn'],
    ['next to nothing left', view(0.03), 'Critical'],
    ['next to nothing left under a soft limit', view(0.03, undefined, true), 'Warn'],
    ['stalls beside much free memory: those of a stranger', view(0.3, [90, 90]), 'Normal'],
    ['some wait now and then', view(0.2, [9.99, 0]), 'Normal'],
    ['some wait a tenth of the time', view(0.2, [10, 0]), 'Warn'],
    ['all wait a little', view(0.2, [30, 19.99]), 'Warn'],
    ['all wait a fifth of the time', view(0.2, [30, 20]), 'Critical'],
  ] as const)('%s', (_, of, pressure) => {
    expect(pressureOf([of])).toBe(pressure)
    expect(pressureOf([view(0.9), of, view(0.9)])).toBe(pressure)
  })
  test('the folders of a cgroup are its own and all above', () => {
    expect(linux.cgroupFolders('0::/a/b\n').map((f) => f.path)).toEqual([
      '/sys/fs/cgroup/a/b',
      '/sys/fs/cgroup/a',
      '/sys/fs/cgroup',
    ])
  })
  test('this very machine can be observed', async () => {
    const { machineDoors } = await import('../../../agent/observe/doors.ts')
    const facts = await createObserver({ platform: process.platform, doors: machineDoors, dataDir: '/' })(idle)
    expect(facts.memoryBytes).toBeGreaterThan(GIB / 2)
    expect(facts.bootId).not.toBe('')
    expect(facts.diskTotalBytes).toBeGreaterThan(0)
  })
})

describe('--simulate', () => {
  test('names what is reported; the chip says its GPU cores when nothing else does', () => {
    expect(parseSimulation('chip=Apple M4,memory=16Gi,gpuCores=10')).toEqual({
      chip: 'Apple M4',
      memoryBytes: 16 * GIB,
      gpuCores: 10,
    })
    expect(parseSimulation('chip=Apple M4, memory=16Gi, gpuMemory=12Gi')).toEqual({
      chip: 'Apple M4',
      memoryBytes: 16 * GIB,
      gpuCores: 10,
      gpuMemoryBytes: 12 * GIB,
    })
  })
  test.each([
    ['', /unknown key/],
    ['chip=Apple M4', /memory: Required value/],
    ['chip=Apple M4,memory=lots', /memory: Invalid value: "lots": must be a quantity/],
    ['chip=Apple M4,memory=16Gi,gpuCores=x', /gpuCores: Invalid value: "x"/],
    ['chip=Apple M4,memory=16Gi,cores=10', /cores: unknown key, must be one of chip, memory/],
    ['chip=a,chip=b,memory=1Gi', /chip: stands there twice/],
  ])('%j is refused', (spec, message) => expect(() => parseSimulation(spec)).toThrow(message))
  test('changes only reported figures, and reports no live memory', async () => {
    const real: MachineFacts = {
      chip: 'AMD',
      memoryBytes: 24 * GIB,
      bootId: 'b',
      osVersion: 'Linux 6.1',
      headroomBytes: 5,
      pressure: 'Warn',
    }
    const simulation = parseSimulation('chip=Apple M4,memory=16Gi,gpuCores=10')
    expect(await reportAs(() => Promise.resolve(real), { simulation, shares: 3 })(idle)).toEqual({
      chip: 'Apple M4',
      memoryBytes: 16 * GIB,
      gpuCores: 10,
      bootId: 'b',
      simulated: true,
    })
  })
})

describe('a share of the machine', () => {
  const promised = ({ memoryBytes, gpuMemoryBytes }: MachineFacts) =>
    allocatableBytes({ memoryBytes, ...(gpuMemoryBytes === undefined ? {} : { gpuMemoryBytes }) })
  test.each([8, 16, 24, 36, 64, 192, 512])(
    'of %d GiB: N shares promise no more than the machine, and nearly all',
    (gib) => {
      const whole: MachineFacts = { chip: 'x', memoryBytes: gib * GIB, bootId: 'b' }
      for (const shares of [1, 2, 3, 5]) {
        const sum = shares * promised(shareOf(whole, shares))
        expect(sum).toBeLessThanOrEqual(promised(whole))
        expect(sum).toBeGreaterThan(promised(whole) * 0.99)
      }
    },
  )
})
