#include "measure/buffers.h"

#include "ops/conv.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct dlb_problem conv(int64_t ic, int64_t oc, int64_t ih, int64_t kh)
{
    struct dlb_problem problem = {.pass = DLB_FWD};
    for (int i = 0; i < dlb_op_conv.dims_n; i++)
        problem.dim[i] = dlb_op_conv.dims[i].fallback;
    problem.dim[DLB_CONV_IC] = ic;
    problem.dim[DLB_CONV_OC] = oc;
    problem.dim[DLB_CONV_IH] = ih;
    problem.dim[DLB_CONV_KH] = kh;
    problem.dim[DLB_CONV_BIAS] = 1;
    assert_int_equal(dlb_op_conv.complete(&problem, NULL), DLB_OK);
    return problem;
}

static void guards_tell_where(void **state)
{
    (void)state;
    struct dlb_problem problem = conv(3, 5, 7, 3);
    struct dlb_buffers buffers;
    int tensor = -1;
    int64_t offset = 0;
    assert_int_equal(dlb_buffers_make(&dlb_op_conv, &problem, NULL, &buffers, NULL),
                     DLB_OK);
    assert_true(dlb_buffers_guarded(&buffers, &tensor, &offset));
    for (int t = 0; t < buffers.tensors; t++) {
        int64_t n = dlb_tensor_elements(&buffers.tensor[t]);
        float *data = buffers.data[t];
        static const float zeros[1024];
        assert_int_equal((uintptr_t)data % DLB_ALIGN, 0);

        memcpy(data + n, zeros, 4);
        assert_false(dlb_buffers_guarded(&buffers, &tensor, &offset));
        assert_int_equal(tensor, t);
        assert_int_equal(offset, 3);

        dlb_buffers_fill(&buffers, DLB_FILL_DENSE, 1, NULL);
        assert_true(dlb_buffers_guarded(&buffers, &tensor, &offset));
        memcpy(data - 1, zeros, 4);
        assert_false(dlb_buffers_guarded(&buffers, &tensor, &offset));
        assert_int_equal(tensor, t);
        assert_int_equal(offset, -4);

        dlb_buffers_fill(&buffers, DLB_FILL_EXACT, 1, NULL);
        memcpy(data + n, zeros, DLB_GUARD_BYTES);
        assert_false(dlb_buffers_guarded(&buffers, &tensor, &offset));
        assert_in_range(offset, DLB_GUARD_BYTES - 2, DLB_GUARD_BYTES - 1);
        dlb_buffers_fill(&buffers, DLB_FILL_EXACT, 1, NULL);
    }
    dlb_buffers_release(&buffers);
    dlb_buffers_release(&buffers);
}

static void each_byte_of_a_guard_counts(void **state)
{
    (void)state;
    struct dlb_problem problem = conv(1, 1, 1, 1);
    struct dlb_buffers buffers;
    int tensor;
    int64_t offset;
    assert_int_equal(dlb_buffers_make(&dlb_op_conv, &problem, NULL, &buffers, NULL),
                     DLB_OK);
    unsigned char *base = buffers.base[DLB_CONV_BIASES];
    for (int64_t i = 0; i < 2 * DLB_GUARD_BYTES + 4; i++) {
        if (i >= DLB_GUARD_BYTES && i < DLB_GUARD_BYTES + 4)
            continue;
        base[i] ^= 1;
        assert_false(dlb_buffers_guarded(&buffers, &tensor, &offset));
        assert_int_equal(offset, i < DLB_GUARD_BYTES ? i - DLB_GUARD_BYTES
                                                     : i - DLB_GUARD_BYTES - 4);
        base[i] ^= 1;
    }
    assert_true(dlb_buffers_guarded(&buffers, &tensor, &offset));
    dlb_buffers_release(&buffers);
}

static void exact_fill_is_whole_and_dense_fill_is_not(void **state)
{
    (void)state;
    struct dlb_problem problem = conv(8, 16, 9, 3);
    struct dlb_buffers buffers;
    assert_int_equal(dlb_buffers_make(&dlb_op_conv, &problem, NULL, &buffers, NULL),
                     DLB_OK);
    for (int kind = 0; kind < DLB_FILL_KINDS; kind++) {
        dlb_buffers_fill(&buffers, kind, 5, NULL);
        for (int t = 0; t < buffers.tensors; t++) {
            const float *data = buffers.data[t];
            int64_t n = dlb_tensor_elements(&buffers.tensor[t]), whole = 0;
            for (int64_t i = 0; i < n; i++) {
                if (t == DLB_CONV_DST) {
                    assert_true(isnan(data[i]));
                    continue;
                }
                whole += data[i] == rintf(data[i]);
                if (kind == DLB_FILL_EXACT)
                    assert_true(fabsf(data[i]) <= 32);
                else
                    assert_true(data[i] >= -1 && data[i] < 1);
            }
            if (t != DLB_CONV_DST)
                assert_true(kind == DLB_FILL_EXACT ? whole == n : whole < n / 8 + 1);
        }
    }
    dlb_buffers_release(&buffers);
}

/* A long reduction has few non-zero weights, so that its sums stay below 2^24. */
static void long_reductions_are_thinned(void **state)
{
    (void)state;
    struct dlb_problem problem = conv(1 << 16, 4, 1, 1);
    struct dlb_buffers buffers;
    assert_int_equal(dlb_buffers_make(&dlb_op_conv, &problem, NULL, &buffers, NULL),
                     DLB_OK);
    dlb_buffers_fill(&buffers, DLB_FILL_EXACT, 9, NULL);
    const float *weights = buffers.data[DLB_CONV_WEIGHTS];
    const float *src = buffers.data[DLB_CONV_SRC];
    for (int o = 0; o < 4; o++) {
        double sum = 0;
        int used = 0;
        for (int i = 0; i < 1 << 16; i++) {
            used += weights[o * (1 << 16) + i] != 0;
            sum += fabs((double)weights[o * (1 << 16) + i] * src[i]);
        }
        assert_in_range(used, 15500, 17300);
        assert_true(sum < 0x1p24);
    }
    dlb_buffers_release(&buffers);
}

static void seeds_and_tensors_differ(void **state)
{
    (void)state;
    struct dlb_problem problem = conv(16, 16, 4, 1);
    struct dlb_buffers a, b;
    assert_int_equal(dlb_buffers_make(&dlb_op_conv, &problem, NULL, &a, NULL), DLB_OK);
    assert_int_equal(dlb_buffers_make(&dlb_op_conv, &problem, NULL, &b, NULL), DLB_OK);
    size_t bytes = 256 * sizeof(float);
    dlb_buffers_fill(&a, DLB_FILL_DENSE, 1, NULL);
    dlb_buffers_fill(&b, DLB_FILL_DENSE, 1, NULL);
    assert_memory_equal(a.data[DLB_CONV_SRC], b.data[DLB_CONV_SRC], bytes);
    assert_memory_not_equal(a.data[DLB_CONV_SRC], a.data[DLB_CONV_WEIGHTS], bytes);
    dlb_buffers_fill(&b, DLB_FILL_DENSE, 2, NULL);
    assert_memory_not_equal(a.data[DLB_CONV_SRC], b.data[DLB_CONV_SRC], bytes);
    dlb_buffers_release(&a);
    dlb_buffers_release(&b);
}

static void bytes_are_known_beforehand(void **state)
{
    (void)state;
    struct dlb_problem problem = conv(16, 32, 4, 1);
    double elements = 2 * 16 * 16 + 16 * 32 + 2 * 16 * 32 + 32;
    assert_true(dlb_buffers_bytes(&dlb_op_conv, &problem) ==
                elements * 4 + 4 * 2 * DLB_GUARD_BYTES);
}

static void too_large_a_problem_is_refused(void **state)
{
    (void)state;
    struct dlb_problem problem = conv(1, 1, 1, 1);
    problem.dim[DLB_CONV_IC] = problem.dim[DLB_CONV_OC] = 1 << 24;
    problem.dim[DLB_CONV_IH] = problem.dim[DLB_CONV_IW] = 1 << 24;
    struct dlb_buffers buffers;
    struct dlb_error error = {""};
    assert_int_equal(dlb_buffers_make(&dlb_op_conv, &problem, NULL, &buffers, &error),
                     DLB_NOMEM);
    assert_non_null(strstr(error.text, "bytes"));
    assert_null(buffers.base[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guards_tell_where),
        cmocka_unit_test(each_byte_of_a_guard_counts),
        cmocka_unit_test(exact_fill_is_whole_and_dense_fill_is_not),
        cmocka_unit_test(long_reductions_are_thinned),
        cmocka_unit_test(seeds_and_tensors_differ),
        cmocka_unit_test(bytes_are_known_beforehand),
        cmocka_unit_test(too_large_a_problem_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
