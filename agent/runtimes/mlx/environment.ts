/** The environment of the engine mlx, from scratch: nothing of a login shell reaches it. */
import { dirname, join } from 'node:path'

/** The whole environment of the engine and its probe. Offline: models come from the agent, never from the engine. */
export function mlxEnvironment(python: string, dir: string): Readonly<Record<string, string>> {
  return {
    PATH: `${dirname(python)}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin`,
    VIRTUAL_ENV: dirname(dirname(python)),
    HOME: dir,
    TMPDIR: dir,
    LANG: 'en_US.UTF-8',
    PYTHONUTF8: '1',
    PYTHONUNBUFFERED: '1',
    PYTHONNOUSERSITE: '1',
    HF_HOME: join(dir, 'hf'),
    HF_HUB_OFFLINE: '1',
    TRANSFORMERS_OFFLINE: '1',
    TOKENIZERS_PARALLELISM: 'false',
    // 1 is faster and can wedge the GPU of the whole machine until it is rebooted.
    MLX_METAL_FAST_SYNCH: '0',
  }
}
