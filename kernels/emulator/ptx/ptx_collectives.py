"""PTX instructions that threads execute together or that run beside them: barriers, shuffles, matrix products,
copies."""
import re

from ptx_instructions import NotTranslated, elements

SHUFFLES = {'idx': 'Shuffle::index', 'up': 'Shuffle::up', 'down': 'Shuffle::down', 'bfly': 'Shuffle::butterfly'}


def array(t, kind, name, registers, type_name):
    values = ', '.join(t.value(register, type_name) for register in registers)
    return f'{kind} {name}[{len(registers)}] = {{{values}}};'


def barrier(t, parts, operands):
    if 'warp' in parts:
        return t.emit(f'__syncwarp({t.value(operands[0], "u32")});')
    if 'cta' in parts:
        parts = [part for part in parts if part != 'cta']
    if 'red' in parts:
        how = {'popc': '__syncthreads_count', 'or': '__syncthreads_or', 'and': '__syncthreads_and'}[parts[2]]
        if operands[1] != '0':
            raise NotTranslated
        predicate = t.value(operands[-1], 'pred')
        return t.assign(operands[0], f'{how}({predicate}){"" if parts[-1] == "u32" else " != 0"}', parts[-1])
    if parts[1] == 'arrive':
        return t.emit(f'named_barrier_arrive({t.value(operands[0], "s32")}, {t.value(operands[1], "s32")});')
    if len(operands) > 1:
        return t.emit(f'named_barrier_sync({t.value(operands[0], "s32")}, {t.value(operands[1], "s32")});')
    if operands != ['0']:
        raise NotTranslated
    return t.emit('__syncthreads();')


def shuffle(t, parts, operands):
    targets = operands[0].split('|')
    arguments = ', '.join(t.value(operand, 'u32') for operand in operands[1:])
    call = f'shuffle_words({SHUFFLES[parts[2]]}, {arguments}, inside)'
    t.emit(f'{{ bool inside; const uint32_t got = {call};')
    t.assign(targets[0], 'got', 'b32')
    if len(targets) > 1:
        t.assign(targets[1], 'inside', 'pred')
    t.emit('}')


def vote(t, parts, operands):
    predicate, mask = t.value(operands[1], 'pred'), t.value(operands[2], 'u32')
    if parts[2] == 'ballot':
        t.assign(operands[0], f'__ballot_sync({mask}, {predicate})', 'b32')
    elif parts[2] in ('any', 'all'):
        t.assign(operands[0], f'__{parts[2]}_sync({mask}, {predicate}) != 0', 'pred')
    else:
        raise NotTranslated


def match(t, parts, operands):
    if parts[1] != 'any':
        raise NotTranslated
    value, mask = t.value(operands[1], parts[-1]), t.value(operands[2], 'u32')
    t.assign(operands[0], f'__match_any_sync({mask}, {value})', 'b32')


def reduce(t, parts, operands):
    kind, how = parts[-1].replace('b', 'u'), next(part for part in parts[1:] if part != 'sync')
    value, mask = t.value(operands[1], kind), t.value(operands[2], 'u32')
    t.assign(operands[0], f'__reduce_{how}_sync({mask}, {value})', kind)


def matrix_product(t, parts, operands):
    if '.'.join(parts[1:]) != 'sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32':
        raise NotTranslated
    d, a, b, c = map(elements, operands)
    t.emit('{ ' + array(t, 'const uint32_t', 'a', a, 'b32'))
    t.emit(array(t, 'const uint32_t', 'b', b, 'b32'))
    t.emit(array(t, 'const float', 'c', c, 'f32'))
    t.emit('float d[4]; mma_m16n8k16(d, a, b, c);')
    for index, register in enumerate(d):
        t.assign(register, f'd[{index}]', 'f32')
    t.emit('}')


def load_matrices(t, parts, operands):
    registers = elements(operands[0])
    suffix = '_trans' if 'trans' in parts else ''
    if len(registers) not in (2, 4) or 'b16' not in parts:
        raise NotTranslated
    t.emit(f'{{ uint32_t d[{len(registers)}]; ldmatrix_x{len(registers)}{suffix}(d, '
           f'shared_pointer({t.memory(operands[1], "shared")}));')
    for index, register in enumerate(registers):
        t.assign(register, f'd[{index}]', 'b32')
    t.emit('}')


def async_copy(t, name, parts, operands):
    if name == 'cp.async.commit_group':
        return t.emit('cp_async_commit();')
    if name == 'cp.async.wait_group':
        return t.emit(f'wait_async_copies({operands[0]});')
    if name == 'cp.async.wait_all':
        return t.emit('cp_async_commit(); wait_async_copies(0);')
    if name.startswith('cp.async.bulk.tensor.'):
        return tensor_copy(t, name, operands)
    if re.match(r'cp\.async\.bulk\.shared::(cluster|cta)\.global\.mbarrier::complete_tx::bytes$', name):
        return t.emit(f'start_bulk_copy(shared_pointer({t.memory(operands[0], "shared")}), '
                      f'pointer({t.memory(operands[1], "global")}), {t.value(operands[2], "u32")}, '
                      f'barrier_at({t.memory(operands[3], "shared")}), here());')
    if not re.match(r'cp\.async\.c[ag]\.shared(::cta)?\.global', name):
        raise NotTranslated
    valid = t.value(operands[3], 'u32') if len(operands) > 3 else operands[2]
    return t.emit(f'start_async_copy(shared_pointer({t.memory(operands[0], "shared")}), '
                  f'pointer({t.memory(operands[1], "global")}), {operands[2]}, {valid}, here());')


def tensor_copy(t, name, operands):
    found = re.match(r'cp\.async\.bulk\.tensor\.(\d)d\.shared::(?:cluster|cta)\.global(?:\.tile)?'
                     r'\.mbarrier::complete_tx::bytes$', name)
    if found is None:
        raise NotTranslated
    source = re.match(r'\[\s*([%\w]+)\s*,\s*(\{[^}]*\})\s*\]', operands[1])
    origin = ', '.join(t.value(register, 's32') for register in elements(source.group(2)))
    t.emit(f'start_tensor_copy(shared_pointer({t.memory(operands[0], "shared")}), '
           f'static_cast<const CUtensorMap*>(pointer({t.value(source.group(1), "u64")})), '
           f'barrier_at({t.memory(operands[2], "shared")}), {found.group(1)}, {{{origin}}}, here());')


def memory_barrier(t, name, parts, operands):
    """mbarrier. Its wait does not come back before the phase has ended."""
    if name.startswith('mbarrier.init'):
        t.emit(f'mbarrier_init(barrier_at({t.memory(operands[0], "shared")}), {t.value(operands[1], "s32")});')
    elif name.startswith('mbarrier.arrive.expect_tx') and operands[0] == '_':
        bytes_expected = t.value(operands[2], 'u32')
        t.emit(f'mbarrier_arrive_expect(barrier_at({t.memory(operands[1], "shared")}), {bytes_expected});')
    elif re.match(r'mbarrier\.arrive(\.release\.cta)?\.shared', name) and operands[0] == '_':
        t.emit(f'mbarrier_arrive(barrier_at({t.memory(operands[1], "shared")}));')
    elif name.startswith('mbarrier.try_wait.parity'):
        t.emit(f'mbarrier_wait(barrier_at({t.memory(operands[1], "shared")}), {t.value(operands[2], "u32")});')
        t.assign(operands[0], 'true', 'pred')
    else:
        raise NotTranslated


def warpgroup(t, name, parts, operands):
    if parts[1] == 'fence':
        return t.emit('wgmma_fence();')
    if parts[1] == 'commit_group':
        return t.emit('wgmma_commit();')
    if parts[1] == 'wait_group':
        return t.emit(f'wgmma_wait_groups({operands[0]});')
    shape = re.match(r'wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k16\.f32\.bf16\.bf16$', name)
    if shape is None:
        raise NotTranslated
    d, in_registers = elements(operands[0]), operands[1].startswith('{')
    immediates = operands[4:]
    if immediates[:2] != ['1', '1']:
        raise NotTranslated  # negated operands
    a_transposed = '0' if in_registers else immediates[2]
    # The products are carried out at the wait, into the registers themselves.
    places = f'wgmma_{len(t.declarations)}'
    t.declare_local(f'float* {places}[{len(d)}];')
    t.emit('{')
    for index, register in enumerate(d):
        t.emit(f'{places}[{index}] = {t.register_reference(register)};')
    registers = 'nullptr'
    if in_registers:
        t.emit(array(t, 'const uint32_t', 'a', elements(operands[1]), 'b32'))
        registers = 'a'
    a, b = '0' if in_registers else t.value(operands[1], 'u64'), t.value(operands[2], 'u64')
    return t.emit(f'wgmma_scattered({places}, {shape.group(1)}, {a}, {registers}, {b}, {a_transposed}, '
                  f'{immediates[-1]}, {t.value(operands[3], "pred")}, here()); }}')


def translate(t, name, parts, operands):
    """Emits the instruction and returns True, if it is one of this file's."""
    simple = {'bar': barrier, 'barrier': barrier, 'shfl': shuffle, 'vote': vote, 'match': match,
              'redux': reduce, 'mma': matrix_product, 'ldmatrix': load_matrices}
    named = {'cp': async_copy, 'mbarrier': memory_barrier, 'wgmma': warpgroup}
    if parts[0] in simple:
        simple[parts[0]](t, parts, operands)
    elif parts[0] in named:
        named[parts[0]](t, name, parts, operands)
    elif parts[0] in ('membar', 'fence'):
        t.emit('__threadfence();')
    elif parts[0] == 'trap':
        t.emit('fail_with("the kernel has called trap");')
    else:
        return False
    return True
